//! The index of stats, and the history of runs.

use crate::digest::Digest;
use crate::state::{Journal, RunRecord, STAT_HEADER, StatTable};

/// The records of stats, with a checksum that is right as well.
pub fn stat_index(bytes: &[u8]) {
    let _ = StatTable::default().decode(bytes);
    let sealed = [format!("{STAT_HEADER} {}\n", Digest::of_bytes(bytes)).as_bytes(), bytes].concat();
    let mut table = StatTable::default();
    if table.decode(&sealed).is_some() {
        let mut back = StatTable::default();
        assert!(back.decode(&table.encode()).is_some());
        assert!(back == table, "what was written is not what was read");
    }
}

/// The record of a run, and the journal of the last keys.
pub fn history(bytes: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<RunRecord>(bytes) {
        let text = serde_json::to_string_pretty(&record).unwrap();
        assert_eq!(serde_json::from_str::<RunRecord>(&text).unwrap(), record);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let text = Journal::parse(text).to_text().unwrap();
    assert_eq!(Journal::parse(&text).to_text().unwrap(), text);
}
