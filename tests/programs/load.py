"""Reads and deletes Droplets through whatever is in its way, each with an id of its own, until its input ends.

    load.py NUMBER        the worker's number, which its ids begin with
"""
import encodings.idna, select, socket, ssl, sys

NAME, ADDRESS = "api.digitalocean.com", "192.0.2.10"
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE


def request(method, path):
    stream = socket.create_connection((ADDRESS, 443), timeout=2)
    stream = context.wrap_socket(stream, server_hostname=NAME)
    stream.sendall(f"{method} {path} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    answer = b""
    while chunk := stream.recv(65536):
        answer += chunk
    return answer


answered, broken, number = 0, 0, 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    number += 1
    try:
        answered += bool(request("DELETE" if number % 2 else "GET", f"/v2/droplets/{int(sys.argv[1]) * 1_000_000 + number}"))
    except OSError:
        broken += 1
print("done", answered, broken, flush=True)
