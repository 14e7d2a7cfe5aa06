//! Executors: what a file may say of clusters, and what it may not.

use std::path::Path;
use std::time::Duration;

use crate::spec::remotes::read_user_file;
use crate::spec::testing::{load, short, short_errors};

const FILE: &str = "
executor: gpu
executors:
  gpu: { kind: slurm, partition: long, prologue: [module load cuda, ulimit -c 0], options: [--exclusive], time: 4h, max_jobs: 7, short: 0s }
  far: { kind: slurm, remote: team, store: /scratch/$USER/kiln }
stages:
  a: { run: x, executor: far, resources: { cpus: 2, time: 90m } }
";

#[test]
fn a_file_describes_clusters_and_says_where_stages_run() {
    let graph = load(FILE).map_err(|all| short(&all)).unwrap();
    let pipeline = graph.pipeline();
    assert_eq!(pipeline.executor.as_ref().unwrap().value, "gpu");
    let stage = pipeline.stage("a").unwrap();
    assert_eq!(stage.executor.as_ref().unwrap().value, "far");
    assert_eq!(stage.resources.time, Some(Duration::from_secs(5400)));
    let gpu = &pipeline.executors[0];
    assert_eq!(gpu.prologue.as_deref(), Some("module load cuda\nulimit -c 0"));
    assert_eq!(
        (gpu.max_jobs(), gpu.short(), gpu.time),
        (7, Duration::ZERO, Some(Duration::from_secs(14_400)))
    );
    assert_eq!(pipeline.executors[1].store.as_deref(), Some("/scratch/$USER/kiln"));
}

#[test]
fn a_description_that_cannot_be_is_refused_at_its_place() {
    let text = "
executors:
  local: { kind: slurm }
  near: { partition: p }
  gpu: { kind: slrm, partion: p, max_jobs: 0, time: soon }
  far: { kind: slurm, store: /x }
  odd: { kind: slurm, account: \"a\\nb\", options: [--array=1-3, --nice] }
stages: { a: { run: x, resources: { time: soon } } }
";
    insta::assert_snapshot!(short_errors(text), @r"
    bad-name 3:3 `local` is this machine, and cannot be described
    missing-key 4:3 executor `near` has no `kind`, such as `slurm`
    choice 5:16 `kind` of executor `gpu` must be `slurm` or `ray` (did you mean `slurm`?)
    unknown-key 5:22 executor `gpu` has no key `partion` (did you mean `partition`?)
    range 5:44 `max_jobs` of executor `gpu` must be 1 or more
    type 5:53 `time` of executor `gpu` must be a duration such as `90s`, `10m`, `1h30m` or `2d`, not `soon`
    missing-key 6:3 executor `far` has a `store` of its own, and no `remote` by which results come back (name a remote that may be written, or leave out `store` where the nodes see the store of the runner)
    type 7:32 `account` of executor `odd` must be a text of one line
    choice 7:50 `options` of executor `odd` holds `--array=1-3`, with which the job of a stage could not be submitted or found again
    type 8:43 `time` in `resources` of stage `a` (kind command) must be a duration such as `90s`, `10m`, `1h30m` or `2d`, not `soon`
    ");
}

#[test]
fn what_an_engine_cannot_do_and_what_would_lose_a_job_is_refused() {
    let text = "
executors:
  ray: { partition: p, address: 'localhost:8265' }
  near: { kind: slurm, address: 'http://localhost:8265', prologue: ['#SBATCH --time=7'] }
  odd: { kind: slurm, options: [--arr=1-2, -M far, --test-only, -QJmine, long, --account=a, --no-requeue, -v], time: 0s }
stages:
  a: { run: x, resources: { memory: 8000 } }
  b: { run: x, resources: { memory: 8G, time: 0s } }
  c: { run: x, resources: { memory: 8GB, time: 1d12h } }
";
    insta::assert_snapshot!(short_errors(text), @r"
    unknown-key 3:10 `partition` of executor `ray` is for executors of the kind `slurm`
    type 3:33 `address` of executor `ray` is no URL (an address looks like `http://127.0.0.1:8265`)
    unknown-key 4:24 `address` of executor `near` is for executors of the kind `ray`
    choice 4:68 `prologue` of executor `near` holds `#SBATCH`, which has no effect there; write it as one of `options`
    choice 5:33 `options` of executor `odd` holds `--arr=1-2`, with which the job of a stage could not be submitted or found again
    choice 5:44 `options` of executor `odd` holds `-M far`, with which the job of a stage could not be submitted or found again
    choice 5:52 `options` of executor `odd` holds `--test-only`, with which the job of a stage could not be submitted or found again
    choice 5:65 `options` of executor `odd` holds `-QJmine`, with which the job of a stage could not be submitted or found again
    choice 5:74 `options` of executor `odd` holds `long`, which is no option (write an option and its value as one, such as `--partition=long`)
    range 5:118 `time` of executor `odd` must be a second or more
    range 7:37 `memory` in `resources` of stage `a` (kind command) is 8000 bytes (write the unit, such as `8000MiB`)
    type 8:37 `memory` in `resources` of stage `b` (kind command) must be a size such as `4GiB` (write `8GiB` or `8GB`)
    range 8:47 `time` in `resources` of stage `b` (kind command) must be a second or more
    ");
}

#[test]
fn what_a_user_says_of_a_cluster_counts_before_what_a_pipeline_says_key_by_key() {
    let user = "executors: { gpu: { kind: slurm, account: mine, max_jobs: 3 }, ray: { address: 'http://head:8265/' } }";
    let own = read_user_file(Path::new("config.yaml"), user).map_err(|all| short(&all)).unwrap().executors;
    let file = load(FILE).map_err(|all| short(&all)).unwrap();
    let merged = own[0].over(&file.pipeline().executors[0]);
    assert_eq!((merged.account.as_deref(), merged.partition.as_deref()), (Some("mine"), Some("long")));
    assert_eq!((merged.max_jobs(), merged.short()), (3, Duration::ZERO));
    assert_eq!(merged.options, ["--exclusive"]);
    assert_eq!(
        own[1].over(&file.pipeline().executors[0]),
        own[1],
        "that of another engine says nothing of use"
    );
    assert_eq!(own[1].address(), Some("http://head:8265"));
}

#[test]
fn a_users_file_keeps_its_clusters_when_it_is_written_anew() {
    let file = Path::new("config.yaml");
    let text = FILE.split("stages:").next().unwrap().replace("executor: gpu\n", "");
    let user = read_user_file(file, &text).map_err(|all| short(&all)).unwrap();
    let again = read_user_file(file, &user.to_text()).map_err(|all| short(&all)).unwrap();
    let plain = |user: &crate::spec::remotes::UserFile| -> Vec<_> {
        user.executors
            .iter()
            .cloned()
            .map(|mut spec| {
                spec.span = crate::spec::types::Span::default();
                spec
            })
            .collect()
    };
    assert_eq!(plain(&again), plain(&user));
    assert_eq!(user.executors.len(), 2);
}
