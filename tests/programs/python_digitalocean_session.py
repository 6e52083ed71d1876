"""A session of python-digitalocean, a client library of the community's."""
import os

import digitalocean

token = os.environ["DIGITALOCEAN_TOKEN"]
manager = digitalocean.Manager(token=token)
print("account", manager.get_account().status)
print("droplets", len(manager.get_all_droplets()))
droplet = digitalocean.Droplet(
    token=token,
    name="session",
    region="nyc3",
    image="debian-12-x64",
    size_slug="s-1vcpu-1gb",
    tags=["session"],
)
droplet.create()
print("created", manager.get_droplet(droplet.id).name)
print("action", droplet.power_off()["action"]["resource_type"])
domain = digitalocean.Domain(token=token, name="example.com")
print("records", len(domain.get_records()))
droplet.destroy()
print("done")
