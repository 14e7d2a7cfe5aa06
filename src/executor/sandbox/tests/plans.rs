//! The list of what is hidden and shown.

use std::path::{Path, PathBuf};

use super::super::layers::{Access, Layers};
use super::super::resolve::{Link, resolve};
use super::super::{SandboxError, Strict};
use super::World;

fn plan(world: &World) -> Vec<(String, Access)> {
    let layers = Layers::of(&world.strict).unwrap();
    let relative = |path: &Path| path.strip_prefix(&world.root).unwrap().display().to_string();
    layers.list.iter().map(|layer| (relative(&layer.path), layer.access)).collect()
}

fn pairs(list: &[(&str, Access)]) -> Vec<(String, Access)> {
    list.iter().map(|(path, access)| ((*path).to_owned(), *access)).collect()
}

#[test]
fn a_store_in_the_project_is_hidden_with_it() {
    let world = World::new("p", "p/artifacts");
    let wanted = [
        ("p", Access::Hidden),
        ("p/.venv", Access::ReadOnly),
        ("p/artifacts/work/ab/cdef/checkpoint", Access::ReadWrite),
        ("p/artifacts/work/ab/cdef/execution", Access::ReadWrite),
        ("p/artifacts/work/ab/cdef/tmp", Access::ReadWrite),
    ];
    assert_eq!(plan(&world), pairs(&wanted));
}

#[test]
fn what_lies_in_a_shown_folder_or_outside_needs_no_layer() {
    let mut world = World::new("p", "p/artifacts");
    let inside = world.strict.execution.join("tmp");
    std::fs::create_dir(&inside).unwrap();
    world.strict.tmp = inside.clone();
    world.strict.checkpoint = world.root.join("outside");
    world.strict.readable = vec![inside, world.root.clone(), "/usr/bin".into(), world.strict.store.clone()];
    let wanted = [("p", Access::Hidden), ("p/artifacts/work/ab/cdef/execution", Access::ReadWrite)];
    assert_eq!(plan(&world), pairs(&wanted));
}

#[test]
fn a_store_in_a_readable_folder_is_hidden_again() {
    let mut world = World::new("p", "p/tools/artifacts");
    world.strict.readable = vec![world.strict.project.join("tools")];
    let list = plan(&world);
    let wanted =
        [("p", Access::Hidden), ("p/tools", Access::ReadOnly), ("p/tools/artifacts", Access::Hidden)];
    assert_eq!(list[..3], pairs(&wanted));
    assert_eq!(list.len(), 6);
}

#[test]
fn the_root_folder_as_the_project_is_refused() {
    let world = World::new("p", "p/artifacts");
    let strict = Strict { project: "/".into(), ..world.strict.clone() };
    assert!(matches!(strict.prepare(), Err(SandboxError::WholeSystem { what: "project" })));
    let message = strict.prepare().unwrap_err().to_string();
    assert!(message.contains("move the pipeline to a folder of its own"), "{message}");
}

#[test]
fn links_on_the_way_are_found_and_endless_ones_are_an_error() {
    let world = World::new("p", "p/artifacts");
    let root = &world.root;
    let link = |path: &str, target: &str| {
        std::os::unix::fs::symlink(target, root.join(path)).unwrap();
        Link { path: root.join(path), target: PathBuf::from(target) }
    };
    let first = link("p/a", "../b/../b");
    let second = link("b", "outside");
    let (path, links) = resolve(&root.join("p/./a/file")).unwrap();
    assert_eq!(path, root.join("outside/file"));
    assert_eq!(links, [first, second.clone(), second]);
    link("p/loop", "loop");
    assert!(resolve(&root.join("p/loop")).is_err());
    assert!(resolve(Path::new("relative")).is_err());
}
