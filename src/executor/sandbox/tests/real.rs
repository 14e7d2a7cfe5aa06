//! What a command can and cannot do in a sandbox, as root and as an ordinary user, by both methods.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::super::{Method, SandboxError, Strict};
use super::world::{program, write};
use super::{User, World, ways};

/// A name, a shell command, and whether it must work.
type Fact<'a> = (&'a str, &'a str, bool);

#[test]
#[ignore = "the process in the sandbox, started by the tests below"]
fn the_sandboxed_process() {
    if std::env::var_os("KILN_TEST_STRICT").is_none() {
        return;
    }
    // A forked process has one thread, as the supervisor of a stage has; the process of a test has more.
    // SAFETY: the other threads only wait for this one, so that no lock is held.
    #[allow(unsafe_code)]
    match unsafe { libc::fork() } {
        0 => {
            let worked = std::panic::catch_unwind(answer).is_ok();
            unsafe { libc::_exit(i32::from(!worked)) }
        }
        child => {
            let mut status = 0;
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0);
        }
    }
}

/// What the process does: it enters the sandbox, runs the script and writes what that wrote.
fn answer() {
    let strict: Strict = serde_json::from_str(&std::env::var("KILN_TEST_STRICT").unwrap()).unwrap();
    let method: Option<Method> = serde_json::from_str(&std::env::var("KILN_TEST_METHOD").unwrap()).unwrap();
    let script = std::env::var("KILN_TEST_SCRIPT").unwrap();
    // Opened before the sandbox, as the pipes and files of a supervisor are.
    let mut answer = fs::File::create(std::env::var("KILN_TEST_ANSWER").unwrap()).unwrap();
    let entered = method.map(|method| {
        mount_below(&strict).map_err(SandboxError::Trial)?;
        strict.enter(method)
    });
    let text = match entered {
        None => {
            strict.prepare().map_or_else(|e| e.to_string(), |method| serde_json::to_string(&method).unwrap())
        }
        Some(Ok(())) => {
            let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
            String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
        }
        Some(Err(e)) => format!("error: {e}"),
    };
    std::io::Write::write_all(&mut answer, text.as_bytes()).unwrap();
}

/// Mounts another file system in the execution folder and in the project, where the test asks for it.
fn mount_below(strict: &Strict) -> std::io::Result<()> {
    let inside = strict.execution.join("mounted");
    if !inside.exists() {
        return Ok(());
    }
    let script = format!(
        "mount -t tmpfs x {0} && echo a > {0}/a && mount -t tmpfs x {1} && echo b > {1}/b",
        inside.display(),
        strict.project.join("src").display()
    );
    // SAFETY: a mount namespace of its own for this process, which has one thread.
    #[allow(unsafe_code)]
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
    let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)?;
    assert!(Command::new("sh").args(["-ec", &script]).status()?.success());
    Ok(())
}

/// Holds the facts to what happens in the sandbox.
fn expect(world: &World, user: User, method: Method, facts: &[Fact<'_>]) {
    let mut script = format!(
        "P='{}'; S='{}'; R='{}'\n",
        path(&world.strict.project),
        path(&world.strict.store),
        path(&world.root)
    );
    script.push_str(
        "can() { if (eval \"$2\") >/dev/null 2>&1; then echo \"can $1\"; else echo \"cannot $1\"; fi; }\n",
    );
    let mut wanted = String::new();
    for (name, command, works) in facts {
        script.push_str(&format!("can '{name}' '{command}'\n"));
        wanted.push_str(&format!("{} {name}\n", if *works { "can" } else { "cannot" }));
    }
    assert_eq!(world.run(user, method, &script), wanted, "{user:?} by {method:?}");
}

fn path(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// What holds in every sandbox.
const ALWAYS: &[Fact<'_>] = &[
    ("write into the execution folder", "echo made > made && mkdir d && mv made d/", true),
    ("find itself in the execution folder", "test \"$(pwd -P)\" = \"$(realpath .)\" && test -e d/made", true),
    ("write into the checkpoint by the relative path", "echo c > ../checkpoint/c", true),
    ("write into the temporary folder", "echo t > ../tmp/t", true),
    ("move from the temporary folder", "mv ../tmp/t t && rm t", true),
    ("read a file of the project", "cat $P/secret", false),
    ("read a folder of the project", "cat $P/src/lib.py", false),
    ("see names in a folder of the project", "ls $P/src | grep lib", false),
    ("read a file of the project by a link from outside", "cat $R/link-into-the-project", false),
    ("read a blob", "cat $S/blobs/ab", false),
    ("read a blob by a relative path", "cat ../../../../blobs/ab", false),
    ("read the work of another stage", "cat ../../other", false),
    ("write into the project", "echo x > $P/new", false),
    ("overwrite a file of the project", "echo x > $P/secret.new && mv $P/secret.new $P/secret", false),
    ("write into the store", "echo x > $S/blobs/new", false),
    ("read a library of the environment", "cat $P/.venv/lib/x.py", true),
    ("run a program of the environment", "$P/.venv/bin/tool", true),
    ("write into the environment", "echo x > $P/.venv/lib/new", false),
    ("change a file of the environment", "echo x > $P/.venv/lib/x.py", false),
    ("read outside", "cat $R/outside/file", true),
    (
        "write outside",
        "echo x > $R/outside/new && mkdir -p $R/outside/d && mv $R/outside/new $R/outside/d",
        true,
    ),
    ("use pipes, devices and background processes", "(echo a; sleep 0.01) | cat >/dev/null & wait $!", true),
    ("signal its processes", "sleep 60 & kill $! && ! wait $!", true),
    ("use shared memory and /proc", "test -d /dev/shm && cat /proc/self/status", true),
    ("write to its standard output by name", "echo x > /dev/stdout", true),
];

fn holds_always(world: &World, more: &[Fact<'_>]) {
    for (user, method) in ways() {
        expect(world, user, method, &[ALWAYS, more].concat());
        let strict = &world.strict;
        // What it wrote is really there, and nothing else has changed.
        assert_eq!(fs::read_to_string(strict.execution.join("d/made")).unwrap(), "made\n");
        assert_eq!(fs::read_to_string(strict.checkpoint.join("c")).unwrap(), "c\n");
        assert_eq!(fs::read_to_string(strict.project.join("secret")).unwrap(), "secret");
        assert_eq!(fs::read_to_string(strict.project.join(".venv/lib/x.py")).unwrap(), "library");
        assert!(!strict.project.join("new").exists() && !strict.store.join("blobs/new").exists());
        fs::remove_dir_all(strict.execution.join("d")).unwrap();
    }
}

#[test]
fn a_command_sees_its_own_folders_and_not_the_project_around_them() {
    holds_always(&World::new("project", "project/artifacts"), &[]);
}

#[test]
fn a_store_elsewhere_is_hidden_as_well() {
    holds_always(&World::new("home/me/project", "data/store"), &[]);
}

#[test]
fn a_store_around_the_project_is_hidden_as_well() {
    holds_always(&World::new("store/of/project", "store"), &[]);
}

#[test]
fn a_store_behind_a_link_in_the_project_keeps_its_paths() {
    let mut world = World::new("project", "elsewhere");
    symlink("../elsewhere", world.strict.project.join("artifacts")).unwrap();
    let store = world.strict.project.join("artifacts");
    let work = store.join("work/ab/cdef");
    world.strict.execution = work.join("execution");
    world.strict.checkpoint = work.join("checkpoint");
    world.strict.tmp = work.join("tmp");
    world.strict.store = store;
    holds_always(
        &world,
        &[("reach the folder by the link", "ls $P/artifacts/work/ab/cdef/execution/d", true)],
    );
}

#[test]
fn a_project_behind_a_link_and_links_on_path_keep_their_paths() {
    let mut world = World::new("real/project", "real/project/artifacts");
    let strict = &mut world.strict;
    symlink("real/project", world.root.join("linked")).unwrap();
    symlink(".venv", strict.project.join("current")).unwrap();
    strict.project = world.root.join("linked");
    strict.readable.push(strict.project.join("current/bin"));
    let facts = [
        ("run a program by the link", "$P/current/bin/tool", true),
        ("read the project by its real path", "cat $R/real/project/secret", false),
    ];
    holds_always(&world, &facts);
}

#[test]
fn a_readable_folder_around_the_store_does_not_show_the_store() {
    let mut world = World::new("project", "project/tools/artifacts");
    program(&world.strict.project.join("tools/tool"));
    world.strict.readable.push(world.strict.project.join("tools"));
    let facts = [
        ("run the program beside the store", "$P/tools/tool", true),
        ("write beside the store", "echo x > $P/tools/new", false),
    ];
    holds_always(&world, &facts);
}

#[test]
fn a_single_file_can_be_readable() {
    let mut world = World::new("project", "project/artifacts");
    write(&world.strict.project.join("bin/one"), "one");
    write(&world.strict.project.join("bin/two"), "two");
    world.strict.readable.push(world.strict.project.join("bin/one"));
    let facts = [
        ("read the file", "cat $P/bin/one", true),
        ("write the file", "echo x > $P/bin/one", false),
        ("read its neighbour", "cat $P/bin/two", false),
    ];
    holds_always(&world, &facts);
}

#[test]
fn other_file_systems_below_are_shown_and_hidden_with_the_folder_around_them() {
    if !rustix::process::geteuid().is_root() {
        return println!("left out: only root can mount a file system for this test");
    }
    let world = World::new("project", "project/artifacts");
    fs::create_dir(world.strict.execution.join("mounted")).unwrap();
    for (user, method) in ways().into_iter().filter(|(user, _)| *user == User::Ourselves) {
        let facts = [
            ("read what is mounted in the execution folder", "cat mounted/a", true),
            ("write there", "echo x > mounted/new", true),
            ("read what is mounted in the project", "cat $P/src/b", false),
        ];
        expect(&world, user, method, &facts);
    }
}

#[test]
fn an_ordinary_user_has_no_rights_in_the_namespace_that_could_undo_it() {
    let world = World::new("project", "project/artifacts");
    for (user, method) in ways() {
        if method != Method::MountNamespace {
            expect(&world, user, method, &[("unmount what hides the project", "umount $P", false)]);
        }
    }
}

#[test]
fn the_preflight_works_in_a_process_with_threads_and_says_what_is_wrong() {
    let mut world = World::new("project", "project/artifacts");
    match world.strict.prepare() {
        Ok(method) => println!("by {method:?}"),
        Err(e) => println!("left out: {e}"),
    }
    world.strict.checkpoint = world.root.join("nowhere");
    let error = world.strict.prepare().unwrap_err().to_string();
    assert!(error.starts_with("cannot resolve the checkpoint folder `/"), "{error}");
}

#[test]
fn a_failing_step_is_named_with_its_path() {
    let world = World::new("project", "project/artifacts");
    // An ordinary user may not make a mount namespace alone.
    for (user, method) in ways() {
        if method == Method::UserNamespace {
            let error = world.run(user, Method::MountNamespace, "");
            assert_eq!(error, "error: cannot make a mount namespace: Operation not permitted (os error 1)");
        }
    }
}
