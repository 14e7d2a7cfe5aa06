//! Rows that are kept from training.
//!
//! Purpose: the last part of a list becomes the held-out one.
//! Invariant: a part above 0 holds out at least one row and leaves at least one.
//! Must not know: what a row is.

/// Takes the last part of the rows out; a part of 0 takes none. `what` names the rows in the error.
///
/// # Errors
/// When there are too few rows for both lists.
pub fn hold_out<T>(rows: &mut Vec<T>, part: f64, what: &str) -> Result<Vec<T>, String> {
    if part == 0.0 {
        return Ok(Vec::new());
    }
    if rows.len() < 2 {
        return Err(format!(
            "{} of the {what} can be used, which is too few to hold one out: add some, or set `validation_fraction: 0`",
            rows.len()
        ));
    }
    let held_out = ((rows.len() as f64 * part) as usize).clamp(1, rows.len() - 1);
    Ok(rows.split_off(rows.len() - held_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_above_0_holds_out_at_least_one_row_and_leaves_one() {
        for (rows, part, held_out) in [(10, 0.0, 0), (10, 0.2, 2), (10, 0.01, 1), (2, 0.5, 1), (0, 0.0, 0)] {
            let mut left: Vec<u32> = (0..rows).collect();
            let taken = hold_out(&mut left, part, "rows").unwrap();
            assert_eq!(taken.len(), held_out);
            assert_eq!([left, taken].concat(), (0..rows).collect::<Vec<u32>>());
        }
        for rows in [0, 1] {
            assert!(hold_out(&mut vec![(); rows], 0.1, "rows").unwrap_err().contains("too few"));
        }
    }
}
