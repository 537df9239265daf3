"""KillSwitches: whom they stop now, and what has become of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from bulkhead.cluster import resources
from bulkhead.cluster.client import Client
from bulkhead.cluster.errors import ApiError, ClusterError
from bulkhead.cluster.events import Recorder
from bulkhead.cluster.informer import Informer
from bulkhead.engine.absence import Absence
from bulkhead.engine.agents import AgentStore
from bulkhead.engine.fleet import Fleet
from bulkhead.engine.queue import Key
from bulkhead.engine.view import View, agent_key
from bulkhead.plan import killswitch, pods, suspension, switchstatus
from bulkhead.plan.killswitch import Switch
from bulkhead.plan.switchstatus import Progress

logger = logging.getLogger(__name__)

Object = dict[str, Any]

ROUND = 0.5
"""Seconds between two looks at how far the switches are, while one of them is not done."""
IDLE_ROUND = 10.0
"""The same, once all are done and nothing changes."""
STANDBY_DELAY = 0.5
"""Seconds for which a replica that does not lead lets the leader cut. Two replicas that delete the same collections at
the same time take longer than one: the API server does all of it twice, and the second time finds nothing."""


class Switches:
    """Follows the KillSwitches, has the fleet cut, and writes their status.

    Call `begin` once the caches are filled, and `run` in a task from then on.

    Args:
        watching: for the informer: a watch holds a connection.
        client: for what is verified live, and the status.
        agents: the agents.
        view: the caches of what agents are made of.
        fleet: cuts.
        notify: told the key of each agent that a switch begins or ceases to stop; must be quick.
        recorder: writes events.
        is_leader: asked before each write of status.
        now: the time of day.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        watching: Client,
        client: Client,
        *,
        agents: AgentStore,
        view: View,
        fleet: Fleet,
        notify: Callable[[Key], None],
        recorder: Recorder,
        is_leader: Callable[[], bool],
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self.informer = Informer(watching, resources.KILL_SWITCHES, on_change=self._changed, index=lambda _: None)
        self._client = client
        self._agents = agents
        self._view = view
        self._fleet = fleet
        self._notify = notify
        self._recorder = recorder
        self._is_leader = is_leader
        self._now = now
        self._clock = clock
        self._absence = Absence(client, agents=agents, view=view, clock=clock)
        self._switches: dict[str, Switch] = {}
        self._met: dict[str, dict[str, Key]] = {}
        """The agents that each switch, by UID, stops, by theirs. Some are deleted, and something of them is left."""
        self._seen: dict[str, tuple[datetime, float]] = {}
        """When each switch, by UID, was first seen here: the time of day, and the clock."""
        self._ready = False
        self._wake = asyncio.Event()

    def of(self, agent: Object) -> tuple[Switch, ...]:
        """Returns the switches that stop an agent now, by name. Cheap: asked at every event of an agent."""
        return killswitch.matching(self._switches.values(), agent) if self._switches else ()

    def begin(self) -> None:
        """Cuts what the switches of before stop: the operator may have been killed in the midst of it."""
        self._ready = True
        for switch in self._switches.values():
            self._cut(switch)
        self._wake.set()

    def agent_changed(self, old: Object | None, new: Object | None) -> None:
        """Takes note that an agent appeared, changed or went; one that a switch stops now is cut if it has anything."""
        if not self._switches:
            return
        self._wake.set()
        if new is None or not self._ready or self._absence.is_idle(new):
            return
        before = self.of(old) if old is not None and old["metadata"]["uid"] == new["metadata"]["uid"] else ()
        if any(switch not in before for switch in self.of(new)):
            self._begin_cut([new])

    async def run(self) -> None:
        """Keeps the status of the switches, until cancelled."""
        while True:
            self._wake.clear()
            if not (self._is_leader() and self._switches):
                # What it knew may not be so when it is asked for again.
                self._met.clear()
                self._absence.forget()
            if self._is_leader() and not self._switches:
                await self._prepare()
            if self._switches and not (self._is_leader() and await self._round()):
                await asyncio.sleep(ROUND)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_ROUND):
                    await self._wake.wait()
            # News come in crowds.
            await asyncio.sleep(ROUND / 5)

    async def _prepare(self) -> None:
        """Learns whether all agents are known while nobody waits for it: among 5,000 it took 20 s of a cut to ask."""
        try:
            await self._absence.knows_all()
        except ClusterError as error:
            logger.info("whether all agents are known is asked again with the next kill switch: %s", error)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        known = new or old
        if known is None or (old is not None and new is not None and _same(old, new)):
            return
        name = known["metadata"]["name"]
        before = self._switches.pop(name, None)
        after = killswitch.read(new) if new is not None else None
        if after is not None:
            self._switches[name] = after
            self._seen.setdefault(after.uid, (self._now(), self._clock()))
            for problem in after.problems:
                logger.error("a KillSwitch stops nobody: %s", problem, extra={"killSwitch": name})
        if before is not None and (after is None or after.uid != before.uid):
            self._met.pop(before.uid, None)
            self._seen.pop(before.uid, None)
        if not self._ready:
            return
        if after is not None and (before is None or before.uid != after.uid):
            self._cut(after)
        for agent in self._agents:
            if any(one is not None and one.matches(agent) for one in (before, after)):
                self._notify(_key(agent))
        self._wake.set()

    def _cut(self, switch: Switch) -> None:
        if switch.selection is None:
            return
        matched = [agent for agent in self._agents if switch.matches(agent)]
        logger.warning(
            "a kill switch is on: %s", switch.reason, extra={"killSwitch": switch.name, "agents": len(matched)}
        )
        self._begin_cut(matched)

    def _begin_cut(self, agents: list[Object]) -> None:
        self._fleet.cut(
            agents,
            graces={one["metadata"]["uid"]: suspension.grace_seconds(one, self.of(one)) for one in agents},
            stops=self._stops,
            delay=0.0 if self._is_leader() else STANDBY_DELAY,
        )

    def _stops(self, key: Key, uid: str) -> bool:
        """Says whether a switch stops an agent still; of one that was deleted what is left goes in any case."""
        agent = self._agents.get(key.namespace, key.name)
        return agent is None or _uid(agent) != uid or bool(self.of(agent))

    async def _round(self) -> bool:
        """Looks how far each switch is and writes it down; says whether all are done."""
        try:
            if not await self._absence.knows_all():
                return False
            await self._write_all()
            await self._prove()
            return await self._write_all()
        except ClusterError as error:
            logger.warning("how far the kill switches are could not be told: %s", error)
            return False

    async def _prove(self) -> None:
        """Proves the end of whom the switches stop; what is known meanwhile is written, for the proof may take long."""
        concerned = {uid: key for met in self._met.values() for uid, key in met.items()}
        proof = asyncio.create_task(self._absence.prove(concerned), name="proof of absence")
        try:
            while not (await asyncio.wait({proof}, timeout=ROUND))[0]:
                with suppress(ClusterError):  # it is tried again after the proof, which does not end for that
                    await self._write_all()
            await proof
        finally:
            proof.cancel()
            await asyncio.gather(proof, return_exceptions=True)

    async def _write_all(self) -> bool:
        """Writes the status of each switch as it is now; says whether all is done."""
        left = self._left_behind()
        matched = [(switch, self._matched(switch, left)) for switch in self._switches.values()]
        return all([await self._write(switch, agents) for switch, agents in matched if self._is_leader()])

    def _left_behind(self) -> list[tuple[str, Key, Object]]:
        """Returns the pods of agents that are gone, with UID and key of these: who leads only now met none of them."""
        marked = ((pod, pods.agent_of(pod)) for pod in self._view.pods)
        owned = (
            (marks.uid, agent_key(pod["metadata"]["namespace"], marks.name), pod)
            for pod, marks in marked
            if marks is not None
        )
        return [(uid, key, pod) for uid, key, pod in owned if self._is_gone(uid, key)]

    def _matched(self, switch: Switch, left: list[tuple[str, Key, Object]]) -> list[Object]:
        """Returns the agents that a switch stops, and notes them and those that are gone but for something left."""
        matched = [agent for agent in self._agents if switch.matches(agent)]
        now = {_uid(agent): _key(agent) for agent in matched}
        meant = {uid: key for uid, key, pod in left if switch.selection is not None and switch.selection.may_mean(pod)}
        before = self._met.get(switch.uid, {}) | meant
        gone = {uid: key for uid, key in before.items() if uid not in now and self._is_gone(uid, key)}
        self._met[switch.uid] = now | self._unproven(gone)
        return matched

    def _unproven(self, agents: Mapping[str, Key]) -> dict[str, Key]:
        """Returns those of which it is not proven that nothing runs."""
        return {uid: key for uid, key in agents.items() if not self._absence.is_proven(uid, key)}

    def _is_gone(self, uid: str, key: Key) -> bool:
        """Says whether an agent was deleted, and is not merely stopped by this switch no more."""
        agent = self._agents.get(key.namespace, key.name)
        return agent is None or _uid(agent) != uid

    async def _write(self, switch: Switch, matched: list[Object]) -> bool:
        """Writes one switch's status if anything of it changed; says whether all is done."""
        obj = self.informer.get(None, switch.name)
        if obj is None or obj["metadata"]["uid"] != switch.uid:
            return True
        previous = obj.get("status") or {}
        seen, since = self._seen[switch.uid]
        current = switchstatus.status(switch, obj, self._progress(switch, matched), seen=seen, now=self._now())
        done = switch.selection is None or switchstatus.is_settled(current)
        if current == previous:
            return done
        if not done and self._stands(switch, matched, previous, current):
            return False
        if switch.selection is not None and done and not self._absence.knew_all(since=since):
            # There may be agents that the watch has not told of yet. If not, they are counted in the next round.
            await self._absence.knows_all(since=since)
            return False
        try:
            written = await self._client.replace_status(
                resources.KILL_SWITCHES, namespace=None, name=switch.name, uid=switch.uid, status=current
            )
        except ApiError as error:
            if error.not_found or error.conflict:
                return True  # deleted, or made again: the watch tells of it
            raise
        self.informer.observe(written, is_ours=False)
        for one in switchstatus.transitions(previous, current):
            level = logging.WARNING if one.type == "Warning" else logging.INFO
            logger.log(level, one.note, extra={"killSwitch": switch.name, "reason": one.reason})
            self._recorder.record(obj, reason=one.reason, note=one.note, action="Stop", type=one.type)
        if switchstatus.is_cut_off(current):
            # Asked now, it does not hold up what is said when all of them are gone.
            await self._absence.knows_all(since=since)
        return done

    def _stands(self, switch: Switch, matched: list[Object], previous: Object, current: Object) -> bool:
        """Says whether a status that says all is merely to be proven anew, as by a new leader: nothing appeared."""
        same = all(previous.get(key) == current.get(key) for key in ("observedGeneration", "matched"))
        nobody_else = self._met.get(switch.uid, {}).keys() <= {_uid(agent) for agent in matched}
        idle = all(self._absence.is_idle(agent) and not self._absence.is_refuted(_uid(agent)) for agent in matched)
        return switchstatus.is_settled(previous) and same and nobody_else and idle

    def _progress(self, switch: Switch, matched: list[Object]) -> Progress:
        left = self._unproven(self._met.get(switch.uid, {}))
        running = self._unproven({_uid(agent): _key(agent) for agent in matched})
        return Progress(
            matched=_words(_key(agent) for agent in matched),
            connected=_words(_key(agent) for agent in matched if self._absence.is_connected(agent)),
            running=_words((running | left).values()),
        )


def _same(old: Object, new: Object) -> bool:
    """Whether nothing but our own status, and what else decides nothing, is another."""
    return all(old["metadata"].get(key) == new["metadata"].get(key) for key in ("uid", "generation"))


def _uid(agent: Object) -> str:
    return str(agent["metadata"]["uid"])


def _key(agent: Object) -> Key:
    return agent_key(agent["metadata"]["namespace"], agent["metadata"]["name"])


def _words(keys: Iterable[Key]) -> frozenset[str]:
    return frozenset(f"{key.namespace}/{key.name}" for key in keys)
