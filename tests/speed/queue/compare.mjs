// Seedfarm's coordinator beside graphile-worker, a well-known job queue on PostgreSQL, on the same machine.
//
//     cargo build --release
//     cd tests/speed/queue && npm install && node compare.mjs ../../../target/release/seedfarm
//
// The nearest equivalents, each against a PostgreSQL of its own that flushes every commit:
//
// - Seedfarm: `bench control`, a lease of one image granted durably, completed durably behind its fence, with
//   one unique result row; over gRPC, at one image a lease and at 16.
// - graphile-worker: a job fetched durably and completed durably (its row is deleted; it keeps no result), in
//   one process without a network in between; once as it comes, once with its batching switched on as its
//   documentation advises for throughput.
//
// Prints jobs or images a second, processor time a job where the system tells it, and the ratio of the two.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, chownSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";

const JOBS = Number(process.env.JOBS ?? 100000);
const CONCURRENCY = 64;
const SECONDS = Number(process.env.SECONDS ?? 10);
const PORT = 54329;

const seedfarm = process.argv[2];
if (!seedfarm || !existsSync(seedfarm)) {
  console.error("usage: node compare.mjs PATH_OF_SEEDFARM");
  process.exit(64);
}

/** The folder of PostgreSQL's programs. */
function programs() {
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => a - b) : [];
  if (versions.length === 0) throw new Error("PostgreSQL is not installed; run: cargo xtask setup");
  return join(root, versions[0], "bin");
}

/** Runs `act` with the address of a new server that flushes every commit. */
async function withServer(act) {
  const bin = programs();
  const folder = mkdtempSync(join(tmpdir(), "seedfarm-queue-"));
  const user = {};
  if (process.getuid() === 0) {
    user.uid = Number(execFileSync("id", ["-u", "postgres"]));
    user.gid = Number(execFileSync("id", ["-g", "postgres"]));
    chownSync(folder, user.uid, user.gid);
  }
  const data = join(folder, "data");
  const quiet = { ...user, cwd: folder, stdio: ["ignore", "ignore", "inherit"] };
  execFileSync(join(bin, "initdb"), ["-D", data, "-U", "queue", "-A", "trust", "--no-sync"], quiet);
  const settings = { port: PORT, unix_socket_directories: folder, listen_addresses: "127.0.0.1" };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const server = spawn(join(bin, "postgres"), ["-D", data, ...flags], {
    ...user,
    cwd: folder,
    stdio: "ignore",
  });
  try {
    const url = `postgres://queue@127.0.0.1:${PORT}/postgres`;
    await untilReady(url);
    return await act(url, server.pid);
  } finally {
    server.kill("SIGINT");
    await new Promise((done) => server.once("exit", done));
    rmSync(folder, { recursive: true, force: true });
  }
}

async function untilReady(url) {
  for (;;) {
    const client = new pg.Client(url);
    try {
      await client.connect();
      return await client.end();
    } catch {
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}

/** Processor seconds of a server's processes that are alive. */
function used(root) {
  let ticks = 0;
  for (const name of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (Number(name) === root || Number(fields[1]) === root) ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      // It ended meanwhile.
    }
  }
  return ticks / 100;
}

/** Jobs a second of graphile-worker until its queue is empty. */
async function graphile(worker) {
  return withServer(async (url, server) => {
    const client = new pg.Client(url);
    await client.connect();
    const setting = async (name) => (await client.query(`SHOW ${name}`)).rows[0][name];
    const durable = { fsync: await setting("fsync"), synchronous_commit: await setting("synchronous_commit") };
    const utils = await makeWorkerUtils({ connectionString: url });
    await utils.migrate();
    await utils.release();
    await client.query(
      `SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
         SELECT json_populate_record(null::graphile_worker.job_spec, json_build_object('identifier', 'image',
           'payload', json_build_object('index', i))) FROM generate_series(1, $1::int) AS i))`,
      [JOBS],
    );
    await client.query("VACUUM ANALYZE");
    let done = 0;
    let finished;
    const all = new Promise((resolve) => (finished = resolve));
    const before = { database: used(server), worker: process.cpuUsage() };
    const start = process.hrtime.bigint();
    const runner = await run({
      noHandleSignals: true,
      taskList: { image: () => void (++done === JOBS && finished()) },
      preset: {
        worker: {
          connectionString: url,
          concurrentJobs: CONCURRENCY,
          maxPoolSize: 10,
          pollInterval: 2000,
          logger: silent(),
          ...worker,
        },
      },
    });
    await all;
    // The last completions may still be on their way.
    for (;;) {
      const left = await client.query("SELECT count(*)::int AS left FROM graphile_worker._private_jobs");
      if (left.rows[0].left === 0) break;
    }
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    const cpu = process.cpuUsage(before.worker);
    const measured = {
      rate: JOBS / seconds,
      worker_us: (cpu.user + cpu.system) / JOBS,
      database_us: ((used(server) - before.database) * 1e6) / JOBS,
      ...durable,
    };
    await runner.stop();
    await client.end();
    return measured;
  });
}

function silent() {
  const log = () => {};
  const logger = { scope: () => logger, error: console.error, warn: log, info: log, debug: log };
  return logger;
}

function control(lease, credits) {
  const args = ["bench", "control", "--json", "--lease", lease, "--seconds", SECONDS, "--credits", credits];
  try {
    const text = execFileSync(seedfarm, args.map(String), { stdio: ["ignore", "pipe", "ignore"] });
    return JSON.parse(text).runs[0];
  } catch (error) {
    // Exit code 1 says that a goal was missed; the document is there all the same.
    if (error.status === 1 && error.stdout.length > 0) return JSON.parse(error.stdout).runs[0];
    throw error;
  }
}

const cell = (text, width) => String(text).padStart(width);
console.log(`${"".padEnd(44)}${cell("per second", 12)}${cell("database µs", 13)}${cell("program µs", 12)}`);
const row = (name, rate, database, program) =>
  console.log(`${name.padEnd(44)}${cell(rate.toFixed(0), 12)}${cell(database.toFixed(1), 13)}${cell(program.toFixed(1), 12)}`);

const plain = await graphile({});
row("graphile-worker 0.18.0, as it comes", plain.rate, plain.database_us, plain.worker_us);
const batched = await graphile({ localQueue: { size: 500 }, completeJobBatchDelay: 0 });
row("graphile-worker 0.18.0, batched", batched.rate, batched.database_us, batched.worker_us);
const ours = {};
for (const [lease, credits] of [
  [1, 16],
  [16, 2],
]) {
  const run = control(lease, credits);
  ours[lease] = run.images_per_second;
  const images = run.images_a_lease;
  row(
    `Seedfarm, ${lease} image${lease === 1 ? "" : "s"} a lease`,
    run.images_per_second,
    run.database_cpu_us / images,
    run.coordinator_cpu_us / images,
  );
}
console.log(`fsync ${plain.fsync}, synchronous_commit ${plain.synchronous_commit} in both`);
console.log(`ratio, one image a lease to graphile-worker as it comes: ${(ours[1] / plain.rate).toFixed(2)}`);
console.log(`ratio, one image a lease to graphile-worker batched:     ${(ours[1] / batched.rate).toFixed(2)}`);
console.log(`ratio, 16 images a lease to graphile-worker batched:     ${(ours[16] / batched.rate).toFixed(2)}`);
