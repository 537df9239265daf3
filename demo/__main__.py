"""`python -m demo`: see `demo`. With KEEP=1 in the environment the cluster stays up for the audience to play with."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from demo import attack, breaker, installation, killswitch, suspension
from demo.stage import DemoError, Stage
from devcluster import api, monitoring, packages
from devcluster.build import Binaries
from devcluster.errors import DevclusterError
from devcluster.monitoring import Monitoring
from devcluster.paths import Cluster
from devcluster.progress import Progress
from devcluster.tiers import tier

NAME = "demo"
"""The cluster's name."""


def main() -> int:
    """Play the demo.

    Returns:
        Exit code: 0; 1 when something it shows is not so or could not be set up; 130 when it was interrupted.
    """
    keep = bool(os.environ.get("KEEP"))
    progress = Progress(sys.stdout)
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _cluster(keep=keep, progress=progress) as stage, ThreadPoolExecutor() as pool:
            play(stage, pool, progress=progress)
            stage.title(f"All of that took {time.monotonic() - began:.0f} s")
            if keep:
                _say_how_to_go_on(stage)
    except (DemoError, DevclusterError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    return 0


def play(stage: Stage, pool: Executor, *, progress: Progress) -> None:
    """Play the acts, each of which builds on those before.

    What an act needs and takes long to start begins in an act before, where the machine has little to do: the start of
    an agent is waiting for the most part, and up to eight seconds long.
    """
    installation.act(stage)
    watched = pool.submit(_surround, stage, progress=progress)
    suspension.act(stage)
    breaker.start(stage)
    attack.act(stage)
    killswitch.start(stage)
    breaker.act(stage, watched.result())
    killswitch.act(stage)


def _surround(stage: Stage, *, progress: Progress) -> Monitoring:
    """Bring in what stands around the agents; give the Prometheus of it."""
    stage.ask("apply", "--filename", attack.SURROUNDINGS)
    return monitoring.install(stage.cluster, progress=progress)


@contextmanager
def _cluster(*, keep: bool, progress: Progress) -> Iterator[Stage]:
    """Bring a fresh cluster up; take it down afterwards, unless all went well and it is to be kept."""
    places = Cluster.named(NAME, tier="cluster")
    running = api.RunningCluster(name=places.name, tier=places.tier, state_dir=places.state_dir)
    running.stop()  # one that was kept: the demo begins at the beginning
    packages.ensure(packages.PACKAGES["cluster"], progress=progress)  # images are made with some of them
    with ThreadPoolExecutor(max_workers=1) as pool:
        # Making images is waiting for the disk and for pip; programs are compiled meanwhile, where that is to be done.
        made = pool.submit(installation.archives, progress=progress)
        Binaries(progress=progress).all(tier("cluster").components)
        archives = made.result()
    played = False
    try:
        yield Stage(api.up("cluster", NAME, images=archives, progress=progress))
        played = True
    finally:
        if not (played and keep):
            # A second Ctrl-C must not leave half of it behind; this takes seconds.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            running.stop()


def _say_how_to_go_on(stage: Stage) -> None:
    stage.say(
        f"""The cluster stays up. To play with it, here:

  export PYTHONPATH=operator:. KUBECONFIG={stage.cluster.kubeconfig}
  alias kubectl={stage.cluster.binary("kubectl")}
  kubectl get agents -A
  kubectl explain agentdeployment.spec
  kubectl patch agent {suspension.AGENT} -n {suspension.NAMESPACE} --type merge -p '{{"spec":{{"suspend":true}}}}'
  kubectl create -f demo/killswitch.yaml && kubectl get killswitches --watch

and to take it down: make clean"""
    )


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
