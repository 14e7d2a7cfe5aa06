"""A Slurm of this machine: munged, slurmctld and slurmd in a folder of their own, on loopback.

Purpose: a real cluster of one node that starts in seconds, for tests; its jobs run as the user who tests.
Invariant: every process is stopped by its process id; nothing outside of the folder is written, and no Slurm that the
machine has is touched.
Must not know: what is submitted.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time

from remotes import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
PATH = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"
# Where task/cgroup can bound the memory of a job, so that one is really out of memory.
MEMORY_CGROUP = "/sys/fs/cgroup/memory"

CONF = """ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ctl}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin={task}
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0,max_script_size=1048576
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=300
MaxJobCount=20000
KillWait={kill_wait}
SlurmctldTimeout=30
SlurmdTimeout={slurmd_timeout}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing():
    """The programs of Slurm that this machine lacks."""
    return [name for name in PROGRAMS if not shutil.which(name, path=PATH)]


class Cluster:
    """A cluster that runs; `env` is what its commands need."""

    def __init__(self, folder, cores, bounds=True, kill_wait=5, slurmd_timeout=30):
        self.folder, self.processes = folder, {}
        self.host = os.uname().nodename.split(".")[0]
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        import getpass

        bounded = bounds and os.path.isdir(MEMORY_CGROUP) and os.access(MEMORY_CGROUP, os.W_OK)
        (folder / "slurm.conf").write_text(CONF.format(
            host=self.host, user=getpass.getuser(), ctl=free_port(), daemon=free_port(), folder=folder, cores=cores,
            task="task/cgroup" if bounded else "task/none", kill_wait=kill_wait, slurmd_timeout=slurmd_timeout))
        self.bounds_memory = bounded
        if bounded:
            (folder / "cgroup.conf").write_text(
                "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\nConstrainRAMSpace=yes\n")
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        self.env = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}

    def start(self, name, *argv):
        log = open(self.folder / f"{name}.out", "ab")
        env = os.environ | self.env
        self.processes[name] = subprocess.Popen([shutil.which(name, path=PATH), *argv], stdout=log, stderr=log, env=env)
        log.close()

    def start_munged(self):
        files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "log-file": "munged.log",
                 "seed-file": "munge.seed"}
        self.start("munged", "--foreground", "--force", *[f"--{option}={self.folder / file}" for option, file in files.items()])
        self.wait(lambda: (self.folder / "munge.socket").exists(), "munged")

    def start_controller(self):
        self.start("slurmctld", "-D", "-f", self.env["SLURM_CONF"])

    def start_node(self):
        self.start("slurmd", "-D", "-f", self.env["SLURM_CONF"], "-N", self.host)

    def stop(self, name, how=signal.SIGTERM):
        process = self.processes.pop(name, None)
        if process and process.poll() is None:
            os.kill(process.pid, how)
            process.wait(60)

    def ask(self, *words, check=True, typed=None):
        ran = subprocess.run(words, env=os.environ | self.env, capture_output=True, text=True, input=typed, timeout=120)
        if check and ran.returncode:
            raise SystemExit(f"{words}: {ran.stdout}{ran.stderr}")
        return ran.stdout

    def jobs(self):
        """`name -> (id, state)` of all jobs, and how often each name is there."""
        lines = self.ask("squeue", "--noheader", "--states=all", "--format=%i|%j|%T").splitlines()
        return [tuple(line.strip().split("|")) for line in lines]

    def wait(self, done, what, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if done():
                return
            time.sleep(0.1)
        raise SystemExit(f"{what}: not within {seconds} s; see {self.folder}")

    def runs_jobs(self):
        """Whether a job comes to its end."""
        self.ask("sbatch", "--parsable", "--output=/dev/null", "--job-name=trial", typed="#!/bin/bash\ntrue\n")
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if self.ask("squeue", "--noheader", "--states=all", "--name=trial", "--format=%T").strip() == "COMPLETED":
                return True
            time.sleep(0.2)
        return False

    def is_idle(self):
        state = self.ask("sinfo", "--noheader", "--format=%T", "--partition=main", check=False).strip()
        return state in ("idle", "mixed", "allocated")


@contextlib.contextmanager
def slurm(folder, cores=2, **more):
    """A cluster of one node that takes jobs; it bounds their memory where that can be had."""
    for bounds in (True, False):
        cluster = Cluster(folder / ("bounded" if bounds else "unbounded"), cores, bounds, **more)
        try:
            cluster.start_munged()
            cluster.start_controller()
            cluster.start_node()
            cluster.wait(cluster.is_idle, "Slurm")
            if not cluster.bounds_memory or cluster.runs_jobs():
                yield cluster
                return
        finally:
            with contextlib.suppress(Exception):
                cluster.ask("scancel", "--user", str(os.getuid()), check=False)
                time.sleep(1)
            for name in list(cluster.processes)[::-1]:
                cluster.stop(name)
