//! Removing folders.
//!
//! Purpose: remove a folder with all that is in it, also where somebody took away the permission to write.
//! Invariant: no link is followed, and nothing outside of the folder is changed.
//! Must not know: what the folder was for.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::operations::Disk;
use super::os::Os;

/// What the owner of a folder needs to remove what is in it.
const OWNER: u32 = 0o700;

/// Removes a file, a link, or a folder with all that is in it; what is not there is no error.
///
/// # Errors
/// The disk refuses.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    remove_tree_on(&Os::default(), path)
}

/// As `remove_tree`, on the disk given.
///
/// # Errors
/// The disk refuses.
pub fn remove_tree_on(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta?,
    };
    let removed = if meta.is_dir() { remove_folder(disk, path) } else { disk.remove_file(path) };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => Ok(()),
        removed => removed,
    }
}

fn remove_folder(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_folder(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_up(disk, path)?;
            disk.remove_folder(path)
        }
        removed => removed,
    }
}

/// Lets the owner read and change every folder from `top` on down.
fn open_up(disk: &dyn Disk, top: &Path) -> io::Result<()> {
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        let mode = fs::symlink_metadata(&folder)?.permissions().mode() & 0o7777;
        if mode & OWNER != OWNER {
            disk.set_mode(&folder, mode | OWNER)?;
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_only_folder_is_removed_and_what_its_links_lead_to_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (top, outside) = (dir.path().join("top"), dir.path().join("outside"));
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "x").unwrap();
        fs::write(top.join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, top.join("a/link")).unwrap();
        for folder in ["a/b", "a", ""] {
            fs::set_permissions(top.join(folder), fs::Permissions::from_mode(0o000)).unwrap();
        }
        // Root may do all this with any mode; an ordinary user needs the modes changed on the way.
        open_up(&Os::default(), &top).unwrap();
        assert_eq!(fs::metadata(top.join("a/b")).unwrap().permissions().mode() & OWNER, OWNER);
        fs::set_permissions(top.join("a"), fs::Permissions::from_mode(0o500)).unwrap();
        remove_tree(&top).unwrap();
        assert!(!top.exists() && outside.join("precious").exists());
        remove_tree(&top).unwrap();
    }
}
