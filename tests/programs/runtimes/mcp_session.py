"""mcp_session.py COMMAND...: a session with an MCP server on its standard input and output, as an assistant has it."""
import json, subprocess, sys

server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
number = 0


def tell(message):
    server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    server.stdin.flush()


def ask(method, **parameters):
    global number
    number += 1
    tell({"id": number, "method": method, "params": parameters})
    for line in server.stdout:
        answer = json.loads(line)
        if answer.get("id") == number:
            if "error" in answer:
                sys.exit(f"failed: {answer['error']}")
            return answer["result"]
    sys.exit("failed: the server has ended")


def call(tool, **arguments):
    result = ask("tools/call", name=tool, arguments=arguments)
    text = " ".join(part.get("text", "") for part in result["content"])
    if result.get("isError"):
        print("failed:", text)
        sys.exit(1)
    return json.loads(text) if text[:1] in "[{" else text


ask("initialize", protocolVersion="2025-03-26", capabilities={}, clientInfo={"name": "session", "version": "1"})
tell({"method": "notifications/initialized"})
tools = [tool["name"] for tool in ask("tools/list")["tools"]]
print("tools", len(tools))
if "--tools" in sys.argv: print(tools)
print("droplets", str(call("droplet-list", Page=1, PerPage=20))[:40])
print("one", str(call("droplet-get", ID=3164444))[:40])
call("droplet-delete", ID=3164444)
print("done")
server.stdin.close()
server.wait(timeout=10)
