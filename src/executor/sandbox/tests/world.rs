//! A project with a store, and processes that enter a sandbox there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::super::{Method, Strict};

/// The number of `nobody`.
const NOBODY: u32 = 65534;

/// Who enters the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Whoever runs the tests.
    Ourselves,
    /// An ordinary user, where root runs the tests.
    Nobody,
}

/// Folders of a test. `strict` may be changed by the test.
pub struct World {
    _folder: TempDir,
    pub root: PathBuf,
    pub strict: Strict,
}

impl World {
    /// A project in `project` with its store in `store`; neighbours beside them, and an environment of Python in
    /// the project.
    pub fn new(project: &str, store: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (project, store) = (root.join(project), root.join(store));
        let work = store.join("work/ab/cdef");
        let strict = Strict {
            execution: work.join("execution"),
            checkpoint: work.join("checkpoint"),
            tmp: work.join("tmp"),
            readable: vec![
                project.join(".venv"),
                project.join("missing"),
                "relative".into(),
                project.clone(),
            ],
            project,
            store,
        };
        let world = Self { _folder: folder, root, strict };
        world.fill();
        world
    }

    fn fill(&self) {
        let Strict { execution, checkpoint, tmp, project, store, .. } = &self.strict;
        let outside = self.root.join("outside");
        let folders = [execution, checkpoint, tmp, &store.join("blobs"), &project.join("src"), &outside];
        folders.iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
        let files = [
            (project.join("secret"), "secret"),
            (project.join("src/lib.py"), "secret"),
            (project.join(".venv/lib/x.py"), "library"),
            (store.join("blobs/ab"), "secret"),
            (store.join("work/ab/other"), "secret"),
            (outside.join("file"), "outside"),
        ];
        files.iter().for_each(|(path, text)| write(path, text));
        program(&project.join(".venv/bin/tool"));
        symlink(project.join("secret"), self.root.join("link-into-the-project")).unwrap();
    }

    /// Starts a process that calls `prepare`.
    pub fn prepare(&self, user: User) -> String {
        self.process(user, None, "")
    }

    /// Starts a process that enters the sandbox and runs a script; gives what that wrote, or the error.
    pub fn run(&self, user: User, method: Method, script: &str) -> String {
        self.process(user, Some(method), script)
    }

    fn process(&self, user: User, method: Option<Method>, script: &str) -> String {
        let answer = self.root.join("answer");
        let _ = fs::remove_file(&answer);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "executor::sandbox::tests::real::the_sandboxed_process", "--ignored"])
            .arg("--test-threads=1")
            .env("KILN_TEST_STRICT", serde_json::to_string(&self.strict).unwrap())
            .env("KILN_TEST_METHOD", serde_json::to_string(&method).unwrap())
            .env("KILN_TEST_SCRIPT", script)
            .env("KILN_TEST_ANSWER", &answer)
            .current_dir("/");
        if user == User::Nobody {
            own(&self.root);
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        fs::read_to_string(&answer).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}

/// Every user and method that this machine has; says what is left out.
pub fn ways() -> Vec<(User, Method)> {
    let world = World::new("project", "project/artifacts");
    let root = rustix::process::geteuid().is_root();
    let mut users = vec![User::Ourselves];
    if root {
        users.push(User::Nobody);
    } else {
        println!("left out: an ordinary user beside ourselves, because root does not run the tests");
    }
    let mut ways = Vec::new();
    for user in users {
        let best = world.prepare(user);
        match serde_json::from_str(&best) {
            Ok(Method::Landlock) => {
                println!("left out: the mount namespace of {user:?}, which the kernel forbids")
            }
            Ok(method) => ways.push((user, method)),
            Err(_) => println!("left out: every sandbox of {user:?}: {best}"),
        }
        match super::super::landlock::is_available() {
            Ok(()) => ways.push((user, Method::Landlock)),
            Err(e) => println!("left out: Landlock: {e}"),
        }
    }
    ways
}

pub fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub fn program(path: &Path) {
    write(path, "#!/bin/sh\necho tool\n");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn own(path: &Path) {
    let done = Command::new("chown").arg("-hR").arg(format!("{NOBODY}:{NOBODY}")).arg(path).status();
    assert!(done.unwrap().success());
}
