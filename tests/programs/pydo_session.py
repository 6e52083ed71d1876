"""A session of PyDo, DigitalOcean's own client library: reads, creations, an action, deletions."""
import os

from pydo import Client

client = Client(token=os.environ["DIGITALOCEAN_TOKEN"])
print("account", client.account.get()["account"]["status"])
print("droplets", len(client.droplets.list()["droplets"]))
wanted = {
    "name": "session",
    "region": "nyc3",
    "size": "s-1vcpu-1gb",
    "image": "debian-12-x64",
    "tags": ["session"],
}
identifier = client.droplets.create(body=wanted)["droplet"]["id"]
print("created", client.droplets.get(droplet_id=identifier)["droplet"]["name"])
action = client.droplet_actions.post(droplet_id=identifier, body={"type": "reboot"})
print("action", action["action"]["type"])
record = {"type": "A", "name": "session", "data": "192.0.2.1"}
created = client.domains.create_record("example.com", body=record)["domain_record"]["id"]
print("records", len(client.domains.list_records("example.com")["domain_records"]))
client.domains.delete_record("example.com", created)
client.droplets.destroy(droplet_id=identifier)
print("done")
