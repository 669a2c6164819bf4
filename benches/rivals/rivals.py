"""The servers that are measured: how to get each, start it, subscribe to it and publish to it."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from process import Failed

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Everything of others goes here.
PLACE = ROOT / "target/rivals"
DEBIAN = PLACE / "debian"
CARGO = PLACE / "cargo"
GO = PLACE / "go"
GET_PATIENCE_S = 900
FIRST_PORT = 18300
# The same protocol and the same requests at both.
LONGWIRE_CENTRIFUGE = "longwire-centrifuge"
CENTRIFUGO = "centrifugo"
CENTRIFUGO_VERSION = "6.9.1"


@dataclass
class Rival:
    """A server that is there to be started."""

    name: str
    version: str
    command: list[str]
    # Where it listens: for WebSockets first.
    addresses: list[str]
    # What the load generator needs to subscribe, and to publish.
    subscribe: list[str]
    publish: list[str] = field(default_factory=list)


@dataclass
class Ports:
    """Addresses of a server's own, so that none inherits another's connections."""

    listen: str
    publish: str

    @staticmethod
    def of(number: int) -> "Ports":
        port = FIRST_PORT + 2 * number
        return Ports(f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}")


def run(*command: str, cwd: Path = ROOT, **environment: str) -> str:
    """Runs a program out of the way of others; gives what it says."""
    try:
        done = subprocess.run(
            ["nice", "-n", "15", *command],
            cwd=cwd,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GET_PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"`{command[0]} {command[1]}` took longer than {GET_PATIENCE_S} s") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Failed(f"`{command[0]} {command[1]}` failed: {said[-1].strip() if said else 'it said nothing'}")
    return done.stdout + done.stderr


def need(program: str) -> str:
    found = shutil.which(program)
    if not found:
        raise Failed(f"{program} is not installed")
    return found


def filled(config: str, ports: Ports) -> str:
    """A configuration of this folder with its addresses filled in; gives its path."""
    text = (HERE / config).read_text().replace("@LISTEN@", ports.listen).replace("@PUBLISH@", ports.publish)
    path = PLACE / "run" / config
    path.write_text(text)
    return str(path)


def longwire(ports: Ports) -> Rival:
    run("cargo", "build", "--locked", "--release", "--workspace")
    binary = str(ROOT / "target/release/longwire")
    return Rival(
        name="longwire",
        version=f"{run(binary, '--version').split()[-1]} ({commit()})",
        command=[binary, "--listen", ports.listen, "--shards", "1"],
        addresses=[ports.listen],
        subscribe=["--url", f"ws://{ports.listen}/channels/{{channel}}"],
    )


def commit() -> str:
    try:
        return run("git", "describe", "--always", "--dirty").strip()
    except Failed:
        return "no repository"


def debian_package(name: str) -> tuple[Path, str]:
    """Unpacks a package below target/, so that nothing of it starts by itself; gives where, and its version."""
    need("apt-get")
    place = DEBIAN / name
    if not place.exists():
        packages = DEBIAN / f"{name}.packages"
        packages.mkdir(parents=True, exist_ok=True)
        run("apt-get", "-q", "download", name, cwd=packages)
        (archive,) = packages.glob(f"{name}_*.deb")
        version = run("dpkg-deb", "-f", str(archive), "Version").strip()
        unpacked = DEBIAN / f"{name}.new"
        run("dpkg-deb", "-x", str(archive), str(unpacked))
        (unpacked / "VERSION").write_text(version)
        unpacked.rename(place)
    return place, (place / "VERSION").read_text()


def nchan(ports: Ports) -> Rival:
    nginx, nginx_version = debian_package("nginx")
    module, version = debian_package("libnginx-mod-nchan")
    prefix = PLACE / "run/nginx"
    (prefix / "temp").mkdir(parents=True, exist_ok=True)
    modules = prefix / "modules"
    if not modules.is_symlink():
        modules.symlink_to(module / "usr/lib/nginx/modules")
    config = filled("nchan.conf", ports)
    program = [str(nginx / "usr/sbin/nginx"), "-p", str(prefix), "-e", "stderr", "-c", config]
    command = with_own_var_lib(program, "nginx")
    run(*command, "-t")
    return Rival(
        name="nchan",
        version=f"{upstream(version)}, nginx {upstream(nginx_version)}",
        command=command,
        addresses=[ports.listen],
        subscribe=["--rival", "--url", f"ws://{ports.listen}/sub/{{channel}}"],
        publish=["--publish-url", f"http://{ports.listen}/pub/{{channel}}"],
    )


def with_own_var_lib(program: list[str], folder: str) -> list[str]:
    """In a mount namespace with a /var/lib of its own: nchan has nginx make the temporary folder it was built with,
    whatever its configuration says, and nothing is to be left on the machine."""
    if os.geteuid() != 0:
        raise Failed("it takes root, for a mount namespace")
    mount = f'mount -t tmpfs none /var/lib && mkdir /var/lib/{folder} && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", mount, "sh", *program]


def upstream(version: str) -> str:
    """Debian's version without what is Debian's."""
    return re.sub(r"^\d+:|[+-].*$", "", version)


def nats_server(ports: Ports) -> Rival:
    package, version = debian_package("nats-server")
    connect = '{"verbose":false,"pedantic":false,"echo":false}'
    return Rival(
        name="nats-server",
        version=upstream(version),
        command=[str(package / "usr/sbin/nats-server"), "-c", filled("nats.conf", ports)],
        addresses=[ports.listen, ports.publish],
        subscribe=[
            "--rival",
            *("--url", f"ws://{ports.listen}/"),
            *("--subscribe-frame", rf"CONNECT {connect}\r\nSUB {{channel}} 1\r\n"),
            *("--rival-ping", r"PING\r\n", "--rival-pong", r"PONG\r\n"),
        ],
        publish=["--publish-command", f"exec python3 '{HERE / 'nats_publish.py'}' {ports.publish}"],
    )


def broadcast_server(name: str, version: str, binary: Path, ports: Ports) -> Rival:
    """One of benches/rivals/servers."""
    return Rival(
        name=name,
        version=version,
        command=[str(binary), ports.listen, ports.publish],
        addresses=[ports.listen, ports.publish],
        subscribe=["--rival", "--url", f"ws://{ports.listen}/"],
        publish=["--publish-url", f"http://{ports.publish}/"],
    )


def cargo_server(name: str, ports: Ports) -> Rival:
    servers = HERE / "servers"
    package = f"rival-{name}"
    run("cargo", "build", "--locked", "--release", "-p", package, "--target-dir", str(CARGO), cwd=servers)
    lock = (servers / "Cargo.lock").read_text()
    version = f"{locked_version(lock, name)}, tokio {locked_version(lock, 'tokio')}"
    return broadcast_server(name, version, CARGO / "release" / package, ports)


def locked_version(lock: str, package: str) -> str:
    """A package's version by Cargo.lock."""
    found = re.search(rf'name = "{re.escape(package)}"\nversion = "([^"]+)"', lock)
    if not found:
        raise Failed(f"Cargo.lock has no {package}")
    return found[1]


def tokio_tungstenite(ports: Ports) -> Rival:
    return cargo_server("tokio-tungstenite", ports)


def fastwebsockets(ports: Ports) -> Rival:
    return cargo_server("fastwebsockets", ports)


def gobwas_ws(ports: Ports) -> Rival:
    go = need("go")
    server = HERE / "servers/gobwas-ws"
    binary = GO / "bin/rival-gobwas-ws"
    # Modules that can be deleted with target/.
    run(go, "build", "-o", str(binary), ".", cwd=server, GOPATH=str(GO), GOFLAGS="-modcacherw")
    module = re.search(r"github.com/gobwas/ws v(\S+)", (server / "go.mod").read_text())[1]
    toolchain = run(go, "env", "GOVERSION", cwd=server).strip().removeprefix("go")
    return broadcast_server("gobwas-ws", f"{module}, Go {toolchain}", binary, ports)


API_KEY = "rivals"


def over_centrifuge(ports: Ports) -> dict:
    """How to subscribe to and to publish at a server of the Centrifuge protocol, Centrifugo's and Longwire's alike."""
    connect, subscribe = '{"id":1,"connect":{}}', '{"id":2,"subscribe":{"channel":"{channel}"}}'
    return {
        "addresses": [ports.listen],
        "subscribe": [
            "--rival",
            *("--url", f"ws://{ports.listen}/connection/websocket"),
            *("--subscribe-frame", rf"{connect}\n{subscribe}"),
            *("--rival-ping", "{}", "--rival-pong", "{}"),
        ],
        "publish": [
            *("--publish-url", f"http://{ports.listen}/api/publish"),
            *("--publish-body", '{"channel":"{channel}","data":"{data}"}'),
            *("--publish-header", f"X-API-Key: {API_KEY}"),
        ],
    }


def longwire_centrifuge(ports: Ports) -> Rival:
    plain = longwire(ports)
    settings = ("--set", "client.insecure=true", "--set", f"http_api.key={API_KEY}")
    return Rival(LONGWIRE_CENTRIFUGE, plain.version, [*plain.command, *settings], **over_centrifuge(ports))


def centrifugo(ports: Ports) -> Rival:
    go = need("go")
    binary = GO / "bin/centrifugo"
    module = f"github.com/centrifugal/centrifugo/v6@v{CENTRIFUGO_VERSION}"
    run(go, "install", module, GOPATH=str(GO), GOBIN=str(GO / "bin"), GOFLAGS="-modcacherw")
    address, port = ports.listen.rsplit(":", 1)
    config = PLACE / "run/centrifugo.json"
    settings = {
        "http_server": {"address": address, "port": int(port)},
        "client": {"insecure": True},
        "http_api": {"key": API_KEY},
        "log": {"level": "error"},
    }
    config.write_text(json.dumps(settings))
    toolchain = run(go, "env", "GOVERSION").strip().removeprefix("go")
    version = f"{CENTRIFUGO_VERSION}, Go {toolchain}"
    return Rival(CENTRIFUGO, version, [str(binary), "-c", str(config)], **over_centrifuge(ports))


# Each gets its server and says how to use it.
RIVALS = {
    LONGWIRE_CENTRIFUGE: longwire_centrifuge,
    CENTRIFUGO: centrifugo,
    "nchan": nchan,
    "nats-server": nats_server,
    "tokio-tungstenite": tokio_tungstenite,
    "fastwebsockets": fastwebsockets,
    "gobwas-ws": gobwas_ws,
}

# What belongs here and could not be had from package registries.
NOT_TO_BE_HAD = {
    "soketi": "its npm package takes uWebSockets.js from a Git repository, which no registry has",
}
