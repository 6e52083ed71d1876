"""Tries to reach the API past tidegate, in one named way, and says in one line what became of it.

    escape.py WHO HOW [KEY=VALUE ...]     WHO: `user`, or `root` without the capabilities of an administrator

    leaked ...      bytes came back from somebody other than tidegate
    answered N      tidegate's own answer
    refused N       the kernel's, with its errno
    closed, silent  no answer
"""
import ctypes, encodings.idna, mmap, os, select, socket, ssl, struct, subprocess, sys, time

API, API_V6, EDGE, PROXY = "192.0.2.10", "2001:db8::10", "104.16.0.9", "198.51.100.30"
NAME = "api.digitalocean.com"
MARK = "escape-attempt"
REQUEST = f"DELETE /v2/droplets/3164444?{MARK} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
SETTINGS = dict(word.split("=", 1) for word in sys.argv[3:])
PATIENCE = float(SETTINGS.get("patience", "5"))
libc = ctypes.CDLL(None, use_errno=True)


def pause():
    """The middle of an attempt, where a test may end the agent."""
    if "pause" in SETTINGS:
        print("paused", flush=True)
        sys.stdin.readline()


def verdict(answer):
    head = answer.split(b"\r\n\r\n", 1)[0].lower()
    if not answer:
        return "closed"
    if b"x-tidegate-decision" in head:
        return "answered " + answer.split(b" ", 2)[1].decode()
    return f"leaked {answer[:60]!r}"


def read_all(stream):
    answer = b""
    try:
        while chunk := stream.recv(65536):
            answer += chunk
    except TimeoutError:
        return answer or None
    except OSError:
        pass
    return answer


def plain(stream, request=REQUEST):
    pause()
    stream.settimeout(PATIENCE)
    stream.sendall(request)
    answer = read_all(stream)
    return "silent" if answer is None else verdict(answer)


def secured(stream, name=NAME):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    stream.settimeout(PATIENCE)
    pause()
    try:
        return plain_on(context.wrap_socket(stream, server_hostname=name))
    except (ssl.SSLError, ConnectionError, EOFError):
        return "closed"
    except TimeoutError:
        return "silent"


def plain_on(stream):
    stream.sendall(REQUEST)
    answer = read_all(stream)
    return "silent" if answer is None else verdict(answer)


def tcp(address, port, family=None, kind=socket.SOCK_STREAM, protocol=0):
    family = family or (socket.AF_INET6 if ":" in address else socket.AF_INET)
    stream = socket.socket(family, kind, protocol)
    stream.settimeout(PATIENCE)
    stream.connect((address, port))
    return stream


def datagram(address, port, connected=False, protocol=0, cork=False):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_DGRAM, protocol)
    s.settimeout(1)
    pause()
    if cork:
        s.setsockopt(socket.IPPROTO_UDP, 1, 1)
        s.connect((address, 53))
        s.send(MARK.encode())
        s.connect((address, port))
        s.setsockopt(socket.IPPROTO_UDP, 1, 0)
        s.send(b"")
    elif connected:
        s.connect((address, port))
        s.send(MARK.encode())
    else:
        s.sendto(MARK.encode(), (address, port))
    try:
        return f"leaked {s.recv(64)!r}"
    except TimeoutError:
        return "silent"


def hello(extensions):
    """A ClientHello of TLS 1.3 with these extensions, as (number, content)."""
    body = b"".join(struct.pack("!HH", number, len(content)) + content for number, content in extensions)
    body += struct.pack("!HH", 43, 3) + b"\x02\x03\x04"
    message = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00" + struct.pack("!H", len(body)) + body
    message = b"\x01" + struct.pack("!I", len(message))[1:] + message
    return b"\x16\x03\x01" + struct.pack("!H", len(message)) + message


def sni(name):
    return 0, struct.pack("!HBH", len(name) + 3, 0, len(name)) + name.encode()


def raw_hello(address, *extensions):
    stream = tcp(address, 443)
    pause()
    stream.sendall(hello(extensions))
    answer = read_all(stream)
    if answer is None:
        return "silent"
    # An alert may be tidegate's own; a ServerHello is somebody's who was reached.
    return "leaked a server's hello" if answer[:1] == b"\x16" else "closed"


def io_uring(polling):
    parameters = bytearray(120)
    if polling:
        struct.pack_into("I", parameters, 8, 2)
    raw = (ctypes.c_char * 120).from_buffer(parameters)
    ring = libc.syscall(425, 4, raw)
    if ring < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")
    sq_off, cq_off = struct.unpack_from("10I", parameters, 40), struct.unpack_from("10I", parameters, 80)
    # Linux 5.10 maps no more than there is.
    sq = mmap.mmap(ring, sq_off[6] + 4 * 4, offset=0)
    cq = mmap.mmap(ring, 4096, offset=0x8000000)
    entries = mmap.mmap(ring, 4 * 64, offset=0x10000000)
    stream = socket.socket()
    address = ctypes.create_string_buffer(struct.pack("=H", 2) + struct.pack(">H", 443) + socket.inet_aton(API) + bytes(8))
    struct.pack_into("=BBHiQQ", entries, 0, 16, 0, 0, stream.fileno(), 16, ctypes.addressof(address))
    sq[sq_off[6]:sq_off[6] + 4] = struct.pack("I", 0)
    struct.pack_into("I", sq, sq_off[1], struct.unpack_from("I", sq, sq_off[1])[0] + 1)
    if libc.syscall(426, ring, 1, 1, 3 if polling else 1, None, 0) < 0:
        raise OSError(ctypes.get_errno(), "io_uring_enter")
    result = struct.unpack_from("i", cq, cq_off[5] + 8)[0]
    if result:
        raise OSError(-result, "io_uring connect")
    return secured(stream)


def fast_open(deferred):
    stream = socket.socket()
    pause()
    if deferred:
        stream.setsockopt(socket.IPPROTO_TCP, 30, 1)
        stream.connect((API, 80))
        stream.send(REQUEST)
    else:
        stream.sendto(REQUEST, 0x20000000, (API, 80))
    stream.settimeout(PATIENCE)
    answer = read_all(stream)
    return "silent" if answer is None else verdict(answer)


def raw(family, protocol):
    s = socket.socket(family, socket.SOCK_RAW, protocol)
    s.sendto(MARK.encode(), (API if family == socket.AF_INET else API_V6, 0))
    return "leaked through a raw socket"


def packet():
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    s.close()
    return "leaked: has a packet socket"


def in_child(attempt, detached=False):
    """Lets a child try; detached, it is nobody's child any more, and of a session of its own."""
    receiving, sending = os.pipe()
    if os.fork() == 0:
        if detached:
            os.setsid()
            if os.fork():
                os._exit(0)
        os.write(sending, outcome(attempt).encode())
        os._exit(0)
    os.close(sending)
    return os.read(receiving, 4096).decode()


def another_program():
    """The same, by a program that is run for it; it shows the head of the answer."""
    line = ["curl", "-sik", "--http1.1", "--max-time", str(PATIENCE), "-X", "DELETE"]
    line += ["--resolve", f"{NAME}:443:{API}", f"https://{NAME}/v2/droplets/3164444?{MARK}"]
    pause()
    done = subprocess.run(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, close_fds=True)
    return "refused 111" if done.returncode == 7 else verdict(done.stdout)


def own_namespace():
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(0x10000000 | 0x40000000):
        raise OSError(ctypes.get_errno(), "unshare")
    open("/proc/self/setgroups", "w").write("deny")
    open("/proc/self/uid_map", "w").write(f"0 {uid} 1")
    open("/proc/self/gid_map", "w").write(f"0 {gid} 1")
    return secured(tcp(API, 443))


def optioned(level, option, value):
    stream = socket.socket()
    stream.settimeout(PATIENCE)
    stream.setsockopt(level, option, value)
    stream.connect((API, 443))
    return secured(stream)


def bound():
    stream = socket.socket()
    stream.settimeout(PATIENCE)
    stream.bind(("198.51.100.99", 0))
    stream.connect((API, 443))
    return secured(stream)


def listener_port():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", int(SETTINGS["listener"])))
    return "leaked: has the listener's port"


def other_user():
    os.setresgid(65533, 65533, 65533)
    os.setresuid(65533, 65533, 65533)
    return secured(tcp(API, 443))


def other_cgroup():
    with open(SETTINGS["outside"] + "/cgroup.procs", "w") as procs:
        procs.write("0")
    return secured(tcp(API, 443))


def other_cgroup_in_child():
    with open(SETTINGS["outside"] + "/cgroup.procs", "w") as procs:
        procs.write("0")
    return in_child(lambda: secured(tcp(API, 443)), detached=True)


def friend():
    meeting = socket.socket(socket.AF_UNIX)
    meeting.settimeout(PATIENCE)
    meeting.connect(SETTINGS["friend"])
    return meeting


def borrowed():
    """A socket that somebody made who is no subject."""
    meeting = friend()
    meeting.send(b"give")
    stream = socket.socket(fileno=socket.recv_fds(meeting, 1, 1)[1][0])
    stream.settimeout(PATIENCE)
    stream.connect((API, 443))
    return secured(stream)


def lent():
    """A socket of this process's own, connected by somebody who is no subject."""
    meeting, stream = friend(), socket.socket()
    socket.send_fds(meeting, [b"take"], [stream.fileno()])
    errno = int(meeting.recv(16))
    if errno:
        raise OSError(errno, "lent")
    return secured(stream)


def be_friend():
    """Gives sockets, and connects those that it is given, for as long as it lives."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(SETTINGS["friend"])
    os.chmod(SETTINGS["friend"], 0o666)
    listening.listen(8)
    print("ready", flush=True)
    while True:
        meeting = listening.accept()[0]
        word, descriptors, _, _ = socket.recv_fds(meeting, 4, 1)
        if word == b"give":
            made = socket.socket()
            socket.send_fds(meeting, [b"x"], [made.fileno()])
            continue
        try:
            given = socket.socket(fileno=descriptors[0])
            given.settimeout(PATIENCE)
            given.connect((API, 443))
            meeting.send(b"0")
        except OSError as error:
            meeting.send(str(error.errno or 110).encode())


def witness():
    """Listens where no subject may come, and answers whatever comes."""
    sockets = []
    for address, family in ((API, socket.AF_INET), (API_V6, socket.AF_INET6), (EDGE, socket.AF_INET)):
        for port in (22, 5000, 8444):
            s = socket.socket(family)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((address, port)); s.listen(64); sockets.append(s)
        for port in (443, 5000, 8443):
            s = socket.socket(family, socket.SOCK_DGRAM)
            s.bind((address, port)); sockets.append(s)
    print("ready", flush=True)
    while True:
        for s in select.select(sockets, [], [])[0]:
            if s.type == socket.SOCK_STREAM:
                stream, peer = s.accept()
                print("tcp", *s.getsockname()[:2], *peer[:2], flush=True)
                stream.send(b"witness")
            else:
                data, peer = s.recvfrom(2048)
                print("udp", *s.getsockname()[:2], *peer[:2], data, flush=True)
                s.sendto(b"witness", peer)


def burst():
    """Ten thousand connects, then one request on the last."""
    streams, refused = [], 0
    for _ in range(int(SETTINGS.get("burst", "10000"))):
        stream = socket.socket()
        stream.setblocking(False)
        error = stream.connect_ex((API, 443))
        refused += error not in (0, 115)
        streams.append(stream)
        if len(streams) > 500:
            streams.pop(0).close()
    for stream in streams:
        stream.close()
    time.sleep(1)
    return secured(tcp(API, 443))


def tunnel():
    stream = tcp(PROXY, 3128)
    stream.sendall(f"CONNECT {NAME}:443 HTTP/1.1\r\nHost: {NAME}:443\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        chunk = stream.recv(4096)
        if not chunk:
            return "closed"
        answer += chunk
    return secured(stream) if b" 200" in answer.split(b"\r\n")[0] else verdict(answer)


ATTEMPTS = {
    "by-name": lambda: secured(tcp(socket.getaddrinfo(NAME, 443, socket.AF_INET)[0][4][0], 443)),
    "by-address": lambda: secured(tcp(API, 443)),
    "by-ipv6": lambda: secured(tcp(API_V6, 443)),
    "by-mapped-ipv6": lambda: secured(tcp("::ffff:" + API, 443)),
    "by-nat64": lambda: secured(tcp("64:ff9b::" + API, 443)),
    "by-edge-address": lambda: secured(tcp(EDGE, 443)),
    **{f"tls-port-{port}": lambda port=port: secured(tcp(API, port)) for port in (2053, 2083, 2087, 2096, 8443)},
    **{f"plain-port-{port}": lambda port=port: plain(tcp(API, port)) for port in (80, 8080, 8880, 2052, 2082, 2086, 2095)},
    "plain-on-443": lambda: plain(tcp(API, 443)),
    "other-port": lambda: plain(tcp(API, 8444)),
    "other-port-ipv6": lambda: plain(tcp(API_V6, 22)),
    "other-port-mapped": lambda: plain(tcp("::ffff:" + API, 5000)),
    "other-port-nat64": lambda: plain(tcp("64:ff9b::" + API, 8444)),
    "no-sni": lambda: raw_hello(API),
    "foreign-sni": lambda: raw_hello(API, sni("other.example")),
    "ech": lambda: raw_hello(API, sni("cloudflare-ech.com"), (0xFE0D, b"\x00" + bytes(40))),
    "ech-at-the-edge": lambda: raw_hello(EDGE, sni("cloudflare-ech.com"), (0xFE0D, b"\x00" + bytes(40))),
    "quic": lambda: datagram(API, 443),
    "quic-connected": lambda: datagram(API, 443, connected=True),
    "quic-ipv6": lambda: datagram(API_V6, 443),
    "quic-mapped": lambda: datagram("::ffff:" + API, 443, connected=True),
    "quic-corked": lambda: datagram(API_V6, 443, cork=True),
    "quic-at-the-edge": lambda: datagram(EDGE, 443),
    "udp-lite": lambda: datagram(API, 443, protocol=136),
    "udp-other-port": lambda: datagram(API, 5000),
    "fast-open": lambda: fast_open(False),
    "fast-open-deferred": lambda: fast_open(True),
    "mptcp": lambda: secured(tcp(API, 443, protocol=262)),
    "io-uring": lambda: io_uring(False),
    "io-uring-polled": lambda: io_uring(True),
    "raw": lambda: raw(socket.AF_INET, 253),
    "raw-ipv6": lambda: raw(socket.AF_INET6, 253),
    "packet": packet,
    "child": lambda: in_child(ATTEMPTS["by-address"]),
    "daemonised": lambda: in_child(ATTEMPTS["by-address"], detached=True),
    "exec": another_program,
    "own-namespace": own_namespace,
    "bound-source": bound,
    "bound-device": lambda: optioned(socket.SOL_SOCKET, 25, b"lo\0"),
    "marked": lambda: optioned(socket.SOL_SOCKET, 36, 0x2000),
    "listener-port": listener_port,
    "to-the-listener": lambda: secured(tcp("127.0.0.1", int(SETTINGS["listener"]))),
    "borrowed-socket": borrowed,
    "lent-socket": lent,
    "other-user": other_user,
    "other-cgroup": other_cgroup,
    "other-cgroup-child": other_cgroup_in_child,
    "forward-proxy": tunnel,
    "burst": burst,
}


def outcome(attempt):
    try:
        return attempt()
    except OSError as error:
        return f"refused {error.errno}" if error.errno else f"silent {error}"


def become(who):
    """Root here is who a service or a container usually runs as: without the capabilities to administer."""
    if who == "user":
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        # Without this its own files in /proc are root's.
        libc.prctl(4, 1, 0, 0, 0)
    elif who == "root":
        # SYS_MODULE, SYS_RAWIO, NET_ADMIN, SYS_PTRACE, SYS_ADMIN, PERFMON, BPF.
        for capability in (12, 16, 17, 19, 21, 38, 39):
            if libc.prctl(24, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl")
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        data = (ctypes.c_uint32 * 6)()
        if libc.capget(header, data):
            raise OSError(ctypes.get_errno(), "capget")
        kept = (data[0] | data[3] << 32) & ~sum(1 << bit for bit in (12, 16, 17, 19, 21, 38, 39))
        for index, word in enumerate((kept & 0xFFFFFFFF, kept & 0xFFFFFFFF, 0, kept >> 32, kept >> 32, 0)):
            data[index] = word
        if libc.capset(header, data):
            raise OSError(ctypes.get_errno(), "capset")


if sys.argv[2] == "friend":
    be_friend()
if sys.argv[2] == "witness":
    witness()
become(sys.argv[1])
print(outcome(ATTEMPTS[sys.argv[2]]), flush=True)
