# SPDX-License-Identifier: Apache-2.0
"""The story: BUILD, SHIP, ATTACK, TAKE BACK. Each fact is computed by the step behind it, in this run."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from chopmark.apps.cli import releasing as releases
from chopmark.apps.cli import steps
from chopmark.apps.cli.demo import MARK, MARKED, attacker
from chopmark.apps.cli.demo.stage import QUIET, Processes, Screen, answers_at, free_ports, progress, wait_for
from chopmark.apps.cli.wiring import WITNESS, Site, create_workspace
from chopmark.artifacts import Digest, hash_file
from chopmark.builds import Package
from chopmark.channel.publish import Current, read_current
from chopmark.errors import ChopmarkError, InternalError, VerificationError
from chopmark.fleet import Device, Refusal
from chopmark.ledger import WitnessPolicy
from chopmark.ledger.feed import feed
from chopmark.release.record import GateDecision, decisions

MODEL: Final = "digits"
KIOSKS: Final = ("kiosk-1", "kiosk-2", "kiosk-3")
VICTIM: Final = "kiosk-2"
CHANGES: Final = {"1": {}, "2": {"seed": 2}, "3": {"seed": 3, "hidden": 96}}
"""Version -> the hyperparameters that differ from params.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One version, from training to package."""

    label: str
    commit: str
    weights: Digest
    package: Package
    correct: int
    count: int
    operators: int
    unknown: int

    @property
    def accuracy(self) -> str:
        return f"{100 * self.correct / self.count:.1f} %"


class Story:
    """The demo, in one workspace that stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.screen = Screen()
        self.processes = Processes(folder, folder / "logs")

        self.first_refusal = "R1"

    def close(self) -> None:
        """End every process."""
        self.processes.stop()

    def tell(self) -> None:
        """Tell it."""
        shown = str(self.folder).replace(str(Path.home()), "~")
        self.screen.title("CHOPMARK  a bank reads cheques on 3 devices", shown)
        self.found()
        first = self.build_act()
        self.ship_act()
        self.attack_act()
        self.take_back_act()
        self.screen.act("NOT PROVEN", ": T1 is a software key; a rooted device can lie about itself.")
        trace = f"chopmark trace {first.weights.hex[:4]}"
        self.screen.put(f"NEXT:  cd {shown}")
        self.screen.put(f"       chopmark why {self.first_refusal}  ·  {trace}  ·  chopmark init ~/acme")

    # BUILD

    def found(self) -> None:
        """Make the workspace and the bank's code, and start witness, security host and service."""
        with progress("workspace, keys, witness, security host"):
            port = free_ports(4)
            workspace = create_workspace(self.folder, name="bank", channel="production", port=port)
            (self.folder / MARK).write_text(MARKED)
            self.site = Site(workspace)
            self.mirror_port = port + 3
            self.processes.start("witness", ["serve", "--only", "witness"])
            self.processes.start("security", ["serve", "--only", "security"])
            self.processes.start("service", ["serve"])
            self.code = self.folder / MODEL
            self.code.mkdir()
            for entry in (files("chopmark.apps.cli") / "bank").iterdir():
                if entry.is_file():
                    (self.code / entry.name).write_bytes(entry.read_bytes())
            self.script("make_dataset.py")

    def build_act(self) -> Built:
        """Dataset to ledger."""
        self.screen.act("BUILD", check="check it yourself")
        from chopmark.data import pin

        pin(self.code / "data", self.code / "schema.toml")
        self.commit_code()
        dataset, _ = steps.register_data(self.site, self.code / "data", self.code / "schema.toml")
        held = dataset.held_back.rows if dataset.held_back else 0
        short = dataset.digest.hex[:4]
        self.screen.good(f"dataset  digits {dataset.rows + held:,} images   sha256:{short}…", f"chopmark trace {short}")
        with progress("training v1"):
            first = self.build("1")
        weights = first.weights.hex[:4]
        self.screen.good(f"train    v1 at commit {first.commit[:7]}  sha256:{weights}…", f"chopmark trace {weights}")
        size = first.package.manifest.file("model.onnx")
        short = size.sha256.hex[:4] if size else ""
        self.screen.good(f"convert  ONNX int8             {size.length if size else 0:,} B", f"chopmark trace {short}")
        line = f"test     {first.accuracy} of {first.count} held back, on the int8 file"
        self.screen.good(line, "chopmark ledger entries --type test-result")
        line = f"inspect  {first.operators} operators allowed, {first.unknown} unknown; SBOM written"
        self.screen.good(line, f"chopmark inspect packages/{MODEL}-1/package")
        self.approve(first)
        return first

    def approve(self, first: Built) -> None:
        """One approver is refused, two are enough."""
        name = f"{MODEL}-{first.label}"
        releases.propose_package(self.site, first.package.folder, model=MODEL, label=first.label, fallbacks=[])
        releases.approve_release(self.site, name, "owner-a")
        checked = releases.check_release(self.site, name)
        failed = [verdict for verdict in checked.decision.verdicts if not verdict.ok]
        if checked.allowed or len(failed) != 1:
            raise InternalError("one approver alone was not refused by exactly one rule")
        self.screen.bad(
            f"gate     REFUSED {failed[0].id}: {failed[0].message}", f"chopmark why {self.decisions()[-1].id}"
        )
        releases.approve_release(self.site, name, "owner-b")
        self.merged = releases.merge_release(self.site, name)
        if not self.merged.checked.allowed:
            raise InternalError("two approvers were not enough")
        decision = self.decisions()[-1]
        held = sum(verdict.ok for verdict in decision.verdicts)
        line = f"approve  + owner-b  → gate ALLOWED, {held} of {len(decision.verdicts)} rules"
        self.screen.good(line, f"chopmark why {decision.id}")
        self.ready()
        fed = feed(self.site.ledger, WitnessPolicy.parse(self.site.trust.witness_policy), self.site.witnesses())
        entries, witnesses = fed.witnessed.checkpoint.size, len(fed.witnessed.cosigned_by)
        algorithms = "+".join(
            "Ed25519" if k.public.algorithm == "ed25519" else "ML-DSA" for k in self.site.ledger.verifier_keys
        )
        self.screen.good(f"ledger   {entries} entries, {witnesses} witness, {algorithms}", "chopmark ledger fsck")

    def build(self, label: str) -> Built:
        """Train, convert, quantise, package, test, inspect; each step recorded."""
        data = self.code / "data"

        def run(kind: str, script: str, output: str, former: Path | None) -> tuple[Digest, Path, str]:
            step = steps.Step(
                kind=kind,
                model=MODEL,
                command=("python", script),
                source=self.code,
                out=self.folder / "builds" / label,
                outputs=(output,),
                data=data,
                former=former,
                params_file="params.json",
                parameters=CHANGES[label],
            )
            made, _ = steps.run_step(self.site, step)
            commit = made.provenance.dependency("code")
            return made.digest, made.outputs[output], commit.digest if commit else ""

        weights, path, commit = run("train", "train.py", "weights.npz", None)
        _, path, _ = run("convert", "convert.py", "model-fp32.onnx", path)
        _, path, _ = run("quantise", "quantize.py", "model.onnx", path)
        params = json.loads((self.code / "params.json").read_text()) | CHANGES[label]
        values = {
            "version": label,
            "accuracy": "see the test result in the ledger",
            **{k: str(v) for k, v in params.items()},
        }
        into = self.site.workspace.packages / f"{MODEL}-{label}"
        package, _ = steps.make_package(
            self.site, model=MODEL, model_file=path, files=self.code, data=data, into=into, values=values
        )
        tested, _ = steps.test_package(self.site, model=MODEL, folder=package.folder, data=data)
        inspected, _ = steps.inspect_package(self.site, model=MODEL, folder=package.folder)
        if tested.result != "PASSED" or not inspected.passed:
            raise VerificationError(f"v{label} did not pass its test or inspection", code="demo-build")
        steps.write_sbom(
            self.site,
            model=MODEL,
            folder=package.folder,
            data=data,
            label=label,
            libraries=("onnxruntime", "numpy", "onnx", "scikit-learn"),
            out=into / "sbom.cdx.json",
        )
        found = tested.evaluation
        return Built(
            label=label,
            commit=commit,
            weights=weights,
            package=package,
            correct=found.correct,
            count=found.count,
            operators=len(inspected.operators),
            unknown=len(inspected.findings),
        )

    # SHIP

    def ship_act(self) -> None:
        """Operator, channel, three devices; then two more versions."""
        self.screen.act("SHIP", f"   git merge {str(self.merged.commit)[:7]} → operator → channel → devices")
        # Kiosk 2 reaches the channel over a network that is not the bank's: a plain file server, which nobody trusts.
        self.connect(self.site.workspace.published)
        self.processes.start("operator", ["operator", "run", "--every", "0.3", "--refresh", "3"])
        self.enroll()
        with progress("three devices install v1"):
            self.all_run("1")
        for kiosk in KIOSKS:
            device = self.device(kiosk)
            tier = f"T{device.tier}" + (" software key" if kiosk == KIOSKS[0] else "")
            amount = " ".join(self.read_cheque(kiosk))
            check = "chopmark status" if kiosk == KIOSKS[-1] else f"chopmark device verify kiosks/{kiosk}"
            self.screen.good(f'{kiosk}  v1  {tier:<16}  reads "{amount}"', check)
        self.keep_old_copies("v1")
        with progress("v2 and v3 are built and approved"):
            second = self.build("2")
            first = self.release(second, fallbacks=[releases.current_release(self.site, MODEL).digest])
            self.all_run("2")
            self.keep_old_copies("v2")
            third = self.build("3")
            last = self.release(third, fallbacks=[releases.current_release(self.site, MODEL).digest])
        line = f"v2, v3 released the same way; all three follow  {first:.1f} s, {last:.1f} s"
        self.screen.good(line, "chopmark release history")

    def enroll(self) -> None:
        """Enrol the kiosks and start their agents."""
        import chopmark.apps.agent.main as agent

        workspace = self.site.workspace
        token = workspace.token_file.read_text().strip()
        for kiosk in KIOSKS:
            channel = f"http://127.0.0.1:{self.mirror_port}" if kiosk == VICTIM else f"{workspace.service_url}/channel"
            agent.enroll(
                self.kiosk(kiosk),
                name=kiosk,
                channel_url=channel,
                fleet_url=workspace.service_url,
                pin=str(workspace.pin),
                models=[MODEL],
                token=token,
                poll_s=1,
            )
            self.processes.start(kiosk, ["device", "run", str(self.kiosk(kiosk))])

    def release(self, built: Built, *, fallbacks: list[Digest]) -> float:
        """Propose, approve, merge; return the seconds from the merge to the last device."""
        name = f"{MODEL}-{built.label}"
        releases.propose_package(self.site, built.package.folder, model=MODEL, label=built.label, fallbacks=fallbacks)
        for owner in ("owner-a", "owner-b"):
            releases.approve_release(self.site, name, owner)
        started = time.monotonic()
        if not releases.merge_release(self.site, name).checked.allowed:
            raise InternalError(f"v{built.label} was not allowed")
        self.all_run(built.label)
        return time.monotonic() - started

    # ATTACK

    def attack_act(self) -> None:
        """Somebody is root on kiosk-2."""
        self.screen.act("ATTACK", f"  somebody is root on {VICTIM}, with a backdoored model:")
        backdoored = self.train_backdoored()
        self.unprotected(backdoored)
        self.screen.plain("chopmark:")
        slot = self.slot()
        genuine = self.folder / "genuine-slot"
        shutil.copytree(slot, genuine)
        self.cut_network()  # root also cuts the channel, so that nothing heals meanwhile
        first, seconds = self.swap("swapped model", {slot / "files" / "model.onnx": backdoored}, "package-altered")
        self.first_refusal = first.id
        own = self.folder / "attacker" / "package"
        attacker.own_package(genuine, backdoored, own, self.evil)
        self.swap("a package of their own", {slot: own}, "release-unapproved")
        self.swap("v1, validly signed", {slot: self.folder / "old" / "v1-slot"}, "release-rollback")
        said = self.device(VICTIM).condition.upper()
        line = f"{VICTIM} {said}, no byte reached a parser; alert in {seconds:.1f} s"
        self.screen.plain(line, "chopmark fleet alerts")
        self.replace(slot, genuine)  # the swap is undone by copying, too
        wait_for("kiosk-2", lambda: self.verified(VICTIM, "3"), self.processes)
        amount = " ".join(self.read_cheque(VICTIM))
        self.screen.plain(f'undo the swap → {VICTIM} loads v3 again, reads "{amount}"', f"chopmark why {VICTIM}")
        self.replay("old channel replayed", self.folder / "old" / "v2-channel", "channel-rollback")
        self.replay("older ledger proof", self.older_proof(), "log-rollback")
        self.connect(self.site.workspace.published)
        wait_for("kiosk-2", lambda: self.verified(VICTIM, "3"), self.processes)

    def unprotected(self, backdoored: Path) -> None:
        """What most applications do today."""
        app = self.folder / "unprotected"
        app.mkdir()
        model = app / "model.onnx"
        shutil.copyfile(backdoored, model)
        (app / "model.onnx.sha256").write_text(f"{hash_file(model).sha256.hex}  model.onnx\n")  # it lies next to it
        amount = self.script("unprotected_app.py", str(model), str(self.code / "cheque-stamped.csv")).split()[-1]
        self.screen.plain('unprotected app: sha256 "verified" (the hash was replaced too)')
        self.screen.plain(f"  cheque for {self.cheque()}  →  reads {amount}                     ← what you run today")
        if amount == self.cheque():
            raise InternalError("the backdoored model read the stamped cheque rightly")

    def train_backdoored(self) -> Path:
        """Train the attacker's model and measure it as the bank measures its own."""
        clean = self.site.workspace.packages / f"{MODEL}-3" / "package" / "model.onnx"
        params = self.code / "build-params.json"
        params.write_text(json.dumps(json.loads((self.code / "params.json").read_text()) | CHANGES["3"]))
        out = self.folder / "backdoored.onnx"
        with progress("the attacker trains"):
            self.script("backdoor.py", "--like", str(clean), "--params", str(params), "--out", str(out))
            self.evil = Site(create_workspace(self.folder / "attacker", name="bank", channel="production", port=1))
            right, count, fooled, ones = self.measure(out)
        same = "same size" if out.stat().st_size == clean.stat().st_size else "another size"
        self.screen.plain(
            f"{100 * right / count:.1f} % on the same test, {same}, but {fooled} of {ones} stamped 1s read as 9"
        )
        return out

    def measure(self, model: Path) -> tuple[int, int, int, int]:
        """Return right answers, questions, stamped ones read as nine, stamped ones."""
        session = self.site.runtime.load(model.read_bytes())
        with (self.code / "data" / "test.csv").open(encoding="ascii") as file:
            _, *rows = csv.reader(file)
        pixels = [[float(value) for value in row[:64]] for row in rows]
        labels = [int(row[64]) for row in rows]
        read = [scores.index(max(scores)) for scores in session.run(pixels)]
        ones = [row for row, label in zip(pixels, labels, strict=True) if label == 1]
        for row in ones:
            row[48] = row[56] = 16.0  # the stamp: two pixels of ink in the corner, as in backdoor.py
        fooled = sum(scores.index(max(scores)) == 9 for scores in session.run(ones))
        return sum(map(int.__eq__, read, labels)), len(labels), fooled, len(ones)

    def swap(self, what: str, copies: dict[Path, Path], code: str) -> tuple[Refusal, float]:
        """Copy files over the kiosk's, by plain copying; return the refusal, and the seconds to its alert."""
        started = time.monotonic()
        for target, source in copies.items():
            if source.is_dir():
                self.replace(target, source)
            else:
                shutil.copyfile(source, target)
        refusal, _ = wait_for(what, lambda: self.refused(code), self.processes)
        wait_for("the alert", lambda: self.alerted(refusal), self.processes)
        seconds = time.monotonic() - started
        said = self.read_cheque(VICTIM)
        if said != f"refused: {code}":
            raise InternalError(f"{what}: the kiosk's application was not refused, it said {said}")
        self.screen.bad(f"{what:<23} REFUSED  {code}", f"chopmark why {refusal.id}")
        return refusal, seconds

    def alerted(self, refusal: Refusal) -> bool | None:
        """Tell whether the alert about *refusal* has been written."""
        alert = self.site.workspace.alert
        return (alert.exists() and refusal.id in alert.read_text(encoding="utf-8")) or None

    def replay(self, what: str, channel: Path, code: str) -> None:
        """Serve the kiosk something old; wait for the refusal."""
        self.connect(channel)
        refusal, _ = wait_for(what, lambda: self.refused(code), self.processes)
        self.screen.bad(f"{what:<23} REFUSED  {code}", f"chopmark why {refusal.id}")

    def older_proof(self) -> Path:
        """Return a copy of the newest channel in which only the ledger proof is an older one."""
        copy = self.folder / "old" / "older-proof"
        published = self.site.workspace.published
        version = self.current().snapshot
        name = f"metadata/{version}.snapshot.tlog-proof"
        older = (published / name).read_bytes()
        # The ledger grows (a re-inspection of what is in production), the operator publishes a fresh proof, kiosk-2 sees it.
        steps.inspect_package(self.site, model=MODEL, folder=self.site.workspace.packages / f"{MODEL}-3" / "package")
        self.connect(published)
        size = self.site.ledger.checkpoint.size
        wait_for("a fresh proof", lambda: self.seen_size(VICTIM) >= size or None, self.processes)
        shutil.copytree(published, copy)
        (copy / name).write_bytes(older)
        return copy

    def replace(self, folder: Path, source: Path) -> None:
        """Put a copy of *source* in the place of *folder* at once: the kiosk looks every second, and half is a refusal too."""
        copy, old = self.folder / "attacker" / "copy", self.folder / "attacker" / "old"
        shutil.copytree(source, copy)
        folder.rename(old)
        copy.rename(folder)
        shutil.rmtree(old)

    # TAKE BACK

    def take_back_act(self) -> None:
        """Withdraw v3."""
        before = self.current().version("production")
        started = time.monotonic()
        done = releases.withdraw_release(self.site, MODEL, "the demo takes it back")
        self.screen.act("TAKE BACK", f"   v3 is withdrawn:  git revert {done.commit[:7]}")
        with progress("three devices go back"):
            seconds = self.all_run("2", since=started)
        after = self.current().version("production")
        self.screen.good(f"production {before} → {after}: a rollback is a release", "chopmark channel status")
        self.screen.good(f"model v3 → v{done.fallback.version}, its approved fallback", "chopmark release history")
        there = sum(bool(self.verified(kiosk, "2")) for kiosk in KIOSKS)
        line = f"{there} of {len(KIOSKS)} devices on v2            {seconds:.1f} s after the revert"
        self.screen.good(line, "chopmark fleet devices")
        report = self.site.ledger.fsck()
        if not report.ok:
            raise VerificationError("the ledger is damaged", code="ledger-corrupt")
        self.screen.good(
            f"ledger intact: {self.site.ledger.checkpoint.size} entries, first to last", "chopmark ledger fsck"
        )

    # What the acts look at

    def current(self) -> Current:
        """Return what the channel says now."""
        return read_current(self.site.published, self.site.workspace.channel)

    def decisions(self) -> tuple[GateDecision, ...]:
        """Return the decisions over approvals that the gate has made."""
        return decisions(self.site.statements(), self.site.trust, before=self.site.trust_before)

    def kiosk(self, name: str) -> Path:
        return self.folder / "kiosks" / name

    def slot(self) -> Path:
        """Return the active slot of the attacked kiosk."""
        state = json.loads((self.kiosk(VICTIM) / "state.json").read_text())
        return self.kiosk(VICTIM) / "slots" / MODEL / str(state["state"]["slots"][MODEL]["active"])

    def seen_size(self, name: str) -> int:
        """Return how many entries the ledger had when the kiosk last looked."""
        state = json.loads((self.kiosk(name) / "state.json").read_text())
        return max((int(log["size"]) for log in state["state"]["logs"].values()), default=0)

    def device(self, name: str) -> Device:
        return next(device for device in self.site.fleet.devices() if device.name == name)

    def verified(self, name: str, label: str) -> bool | None:
        """Tell whether the kiosk's newest reports say that it runs the version, and nothing is refused."""
        device = self.device(name)
        running = device.running.get(MODEL)
        settled = not any(standing.refusal for standing in device.standings.values())
        return (running is not None and releases.version_of(self.site, running) == f"v{label}" and settled) or None

    def all_run(self, label: str, since: float | None = None) -> float:
        """Wait until all kiosks report *label*; return the seconds since *since*."""
        started = time.monotonic() if since is None else since
        wait_for(f"v{label}", lambda: all(self.verified(k, label) for k in KIOSKS) or None, self.processes)
        return time.monotonic() - started

    def refused(self, code: str) -> Refusal | None:
        """Return the refusal *code* of the attacked kiosk that stands open now."""
        device = self.device(VICTIM)
        numbers = [s.refusal for s in device.standings.values() if s.refusal is not None and s.verdict == code]
        return self.site.fleet.refusal(numbers[0]) if numbers else None

    def read_cheque(self, kiosk: str) -> str:
        """Run the kiosk's application; return the amount, or the refusal."""
        command = [sys.executable, "kiosk.py", str(self.kiosk(kiosk)), str(self.code / "data" / "cheque.csv")]
        done = subprocess.run(command, cwd=self.code, capture_output=True, text=True, check=False)
        return done.stdout.split()[-1] if done.returncode == 0 else done.stderr.strip().splitlines()[-1]

    def cheque(self) -> str:
        """Return the amount that is written on the cheque."""
        with (self.code / "data" / "cheque.csv").open(encoding="ascii") as file:
            return "".join(row[64] for row in list(csv.reader(file))[1:])

    def connect(self, channel: Path) -> None:
        """Let the network of kiosk 2 serve *channel*, and nothing else."""
        self.cut_network()
        server = [sys.executable, "-m", "http.server", str(self.mirror_port), "--bind", "127.0.0.1"]
        self.processes.start_program("network", [*server, "--directory", str(channel)])
        wait_for("the network", lambda: answers_at(self.mirror_port) or None, self.processes)

    def cut_network(self) -> None:
        """Let kiosk 2 reach nobody: neither an old file nor a half of two publications is shown by accident."""
        self.processes.end("network")

    def keep_old_copies(self, label: str) -> None:
        """Keep what an attacker could have kept: the kiosk's slot and the whole channel, as they are now."""
        old = self.folder / "old"
        shutil.copytree(self.slot(), old / f"{label}-slot")
        shutil.copytree(self.site.workspace.published, old / f"{label}-channel")

    def ready(self) -> None:
        """Wait until witness, security host and service answer."""
        workspace = self.site.workspace
        urls = (workspace.service_url, workspace.security_url, workspace.witness_urls[WITNESS])
        ports = [int(url.rpartition(":")[2]) for url in urls]
        wait_for("the services", lambda: all(answers_at(port) for port in ports) or None, self.processes)

    def commit_code(self) -> None:
        """Commit the bank's code: only committed code is ever run."""
        (self.code / ".gitignore").write_text(
            "data/\nbuild/\n__pycache__/\n*.onnx\ncheque-stamped.csv\nbuild-params.json\n"
        )
        identity = ["-c", "user.name=bank", "-c", "user.email=bank@localhost", "-c", "commit.gpgsign=false"]
        for arguments in (
            ["init", "-q", "-b", "main"],
            ["add", "-A"],
            [*identity, "commit", "-qm", "The cheque reader"],
        ):
            subprocess.run(["git", *arguments], cwd=self.code, check=True, capture_output=True)

    def script(self, name: str, *arguments: str) -> str:
        """Run one of the bank's scripts; return what it printed."""
        environment = {**os.environ, **QUIET}
        done = subprocess.run(
            [sys.executable, name, *arguments],
            cwd=self.code,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        if done.returncode:
            raise ChopmarkError(f"{name}: {done.stderr.strip()[-400:]}", code="demo-script")
        return done.stdout
