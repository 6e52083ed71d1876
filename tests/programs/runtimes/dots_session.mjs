// A session of dots-wrapper, a client library of the community's for Node (axios): dots_session.mjs NODE_MODULES
import { createRequire } from "node:module";

const { createApiClient } = createRequire(process.argv[2] + "/")("dots-wrapper");
const client = createApiClient({ token: process.env.DIGITALOCEAN_TOKEN });
try {
    console.log("account", (await client.account.getAccount()).data.account.status);
    console.log("droplets", (await client.droplet.listDroplets({})).data.droplets.length);
    const wanted = { name: "session", region: "nyc3", size: "s-1vcpu-1gb", image: "debian-12-x64" };
    const { droplet } = (await client.droplet.createDroplet(wanted)).data;
    console.log("created", droplet.name);
    await client.droplet.deleteDroplet({ droplet_id: droplet.id });
    console.log("done");
} catch (problem) {
    console.log("failed:", problem.message, JSON.stringify(problem.response?.data ?? ""));
    process.exitCode = 1;
}
