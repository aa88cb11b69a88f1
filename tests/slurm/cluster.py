"""A real Slurm on this machine: munge, slurmctld and simulated nodes, on loopback, as root.

Two nodes for most jobs, n1 and n2; n3 for what would disturb them; n4 and n5, and n6 and n7, for
what would disturb n3, too.

Everything it writes stays in one folder; nothing of the system's own configuration is used.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from hpcq.run.processes import children, environ, name, send

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel")

# cred_expire: how long a requeued job waits. config_overrides: the nodes' CPUs are invented.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
PluginDir={plugins}
PlugStackConfig={folder}/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
OverTimeLimit=0
KillWait=5
MinJobAge=3600
ReturnToService=1
SlurmdTimeout=60
InactiveLimit=0
MpiDefault=none
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=32
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=32
NodeName=n3 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[3]} CPUs=32
NodeName=n4 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[4]} CPUs=32
NodeName=n5 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[5]} CPUs=32
NodeName=n6 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[6]} CPUs=32
NodeName=n7 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[7]} CPUs=32
PartitionName=normal Nodes=n[1-2] Default=YES State=UP
PartitionName=pair Nodes=n[4-5] State=UP
PartitionName=second Nodes=n[6-7] State=UP
PartitionName=spare Nodes=n3 State=UP PriorityTier=1 GraceTime=20
PartitionName=urgent Nodes=n3 State=UP PriorityTier=10 PreemptMode=off
"""


NODES = tuple(f"n{number}" for number in range(1, 8))


def is_step(pid):
    """Return whether a process is a daemon of Slurm's for one step on one node."""
    return name(pid).startswith("slurmstepd")


def missing():
    """Return why no Slurm can be started here; "" if it can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} missing: run tests/slurm/install"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root"


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            server = stack.enter_context(socket.socket())
            server.bind(("127.0.0.1", 0))
            found.append(server.getsockname()[1])
        return found


class Cluster:
    """Start Slurm in `folder`; a context manager that takes it down again."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.daemons = []
        ours = ("SLURM", "OMPI_COMM", "OMPI_MCA_orte")
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(ours)},
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            # Ranks that wait must not keep others from the few real CPUs.
            "OMPI_MCA_mpi_yield_when_idle": "1",
        }

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def _start(self):
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        (folder / "state").mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        plugins = next(Path("/usr/lib").glob("*/slurm*/auth_munge.so")).parent
        (folder / "slurm.conf").write_text(
            CONFIGURATION.format(folder=folder, ports=_free_ports(len(NODES) + 1), plugins=plugins)
        )
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={key}",
            f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed",
        )  # fmt: skip
        self.wait(lambda: (folder / "munge.socket").exists(), "munged")
        self._daemon("slurmctld", "-D", "-c")
        for node in NODES:
            # Each node its own folder for PMIx: on one machine they would clash.
            private = folder / f"tmp-{node}"
            private.mkdir()
            self._daemon("slurmd", "-D", "-N", node, TMPDIR=str(private))
        idle = [str(len(NODES)), "idle"]
        self.wait(lambda: self("sinfo", "-h", "-o", "%D %t").split() == idle, "the nodes")

    def _daemon(self, *command, **variables):
        with open(self.folder / f"{command[0]}.out", "ab") as out:
            self.daemons.append(
                subprocess.Popen(
                    command,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    env={**self.environment, **variables},
                )
            )

    def stop(self):
        """Cancel what runs, then end the daemons, last started first."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self("scancel", "--full", "--user=root")
            self.wait(lambda: not self("squeue", "-h"), "the queue to empty", 20)
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def processes_of(self, node):
        """Return what Slurm has started on a node: steps, and all that they have started."""
        found = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
        started = {pid for pid in found if environ(pid).get("SLURMD_NODENAME") == node}
        return started | {pid for pid in found if is_step(pid) and started & set(children(pid))}

    def _slurmd(self, node):
        """Return the process id of a node's slurmd."""
        return next(each.pid for each in self.daemons if each.args[-1] == node)

    def kill_slurmd(self, node):
        """Kill a node's slurmd alone, and wait until Slurm takes the node for lost."""
        send(self._slurmd(node), signal.SIGKILL)
        state = ("sinfo", "-h", "-N", "-n", node, "-o", "%T")
        self.wait(lambda: self(*state).startswith("down"), f"{node} to be down")

    def lose(self, node):
        """Kill a node's slurmd, and all that it has started, as a loss of power would."""
        for pid in (self._slurmd(node), *self.processes_of(node)):
            send(pid, signal.SIGKILL)

    def __call__(self, *command, **variables):
        """Run one of Slurm's commands and return its output."""
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            timeout=240,
            env={**self.environment, **variables},
            check=False,
        )
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stderr}{self.log()}"
        return done.stdout

    def log(self):
        """Return the end of slurmctld's log."""
        log = self.folder / "slurmctld.log"
        return "".join(log.read_text().splitlines(True)[-30:]) if log.exists() else ""

    def submit(self, *arguments, cwd, **variables):
        """Run sbatch; return the number of the job."""
        arguments = ("--parsable", f"--chdir={cwd}", *arguments)
        return self("sbatch", *arguments, **variables).strip()

    def job(self, number):
        """Return what Slurm knows of a job, as `scontrol show job` names it."""
        text = self("scontrol", "show", "job", "--oneliner", number)
        return dict(re.findall(r"(\S+?)=(\S*)", text))

    def state(self, number):
        """Return the job's state, such as RUNNING."""
        return self.job(number)["JobState"]

    def restarts(self, number):
        """Return how often the job was requeued."""
        return int(self.job(number)["Restarts"])

    def wait(self, condition, what, seconds=240):
        """Wait until `condition` returns something true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.2)
        raise AssertionError(f"waited {seconds} s for {what}\n{self.log()}")

    def finish(self, number, expected="COMPLETED", seconds=800):
        """Wait until a job has ended for good, and check its state; else its log says why."""
        live = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED")
        self.wait(lambda: self.state(number) not in live, f"job {number} to end", seconds)
        job = self.job(number)
        if job["JobState"] != expected:
            log = Path(job["StdOut"])
            text = log.read_text() if log.is_file() else f"no {log}"
            state = f"job {number}: {job['JobState']}, exit code {job['ExitCode']}"
            raise AssertionError(f"{state}, not {expected}\n{text}\n{self.log()}")
