// client.mjs KIND URL...: asks each URL, and says `URL STATUS` or why not. For Node, Deno and Bun.
import https from "node:https";
import process from "node:process";

const headers = { Authorization: "Bearer dop_v1_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff" };
const by = {
    fetch: async (url) => {
        const answer = await fetch(url, { headers });
        await answer.arrayBuffer();
        return answer.status;
    },
    https: (url) => new Promise((resolve, reject) => {
        https.get(url, { headers, agent: false }, (answer) => {
            answer.resume();
            answer.on("end", () => resolve(answer.statusCode));
        }).on("error", reject);
    }),
};
const [kind, ...urls] = process.argv.slice(2);
for (const url of urls) {
    try {
        const status = await by[kind](url);
        console.log(url, status);
        if (status !== 200) process.exitCode = 1;
    } catch (problem) {
        console.error(`${url}: ${problem} ${problem.cause ?? ""}`);
        process.exitCode = 1;
    }
}
