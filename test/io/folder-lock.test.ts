import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { FolderLock } from "../../src/io/folder-lock-node.js";

const moduleUrl = JSON.stringify(new URL("../../src/io/folder-lock-node.js", import.meta.url).href);

describe("FolderLock", () => {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "dsnet-lock-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it("is there while held and gone when released", async () => {
    const lock = await FolderLock.acquire(folder);
    assert.equal(readFileSync(join(folder, ".lock"), "utf8"), `${process.pid} ${hostname()}\n`);
    await lock.release();
    assert.ok(!existsSync(join(folder, ".lock")));
    await (await FolderLock.acquire(folder)).release();
  });

  it("refuses a second holder in the same process, under another spelling of the path too", async () => {
    const lock = await FolderLock.acquire(folder);
    await assert.rejects(FolderLock.acquire(join(folder, ".")), {
      code: "ERR_USAGE",
      message: /in use by this process/,
    });
    await lock.release();
  });

  it("refuses while another process holds it, and is taken over once that was killed", async () => {
    const script = `
      import { FolderLock } from ${moduleUrl};
      await FolderLock.acquire(${JSON.stringify(folder)});
      console.log("locked");
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(child.stdout!, "data");
    await assert.rejects(FolderLock.acquire(folder), {
      code: "ERR_USAGE",
      message: new RegExp(`process ${child.pid}.*delete .*lock`),
    });
    child.kill("SIGKILL");
    await once(child, "exit");
    const lock = await FolderLock.acquire(folder);
    await lock.release();
  });

  it("takes over from a dead process, from an unfinished lock, and from this process's number in an earlier life", async () => {
    const dead = spawnSync(process.execPath, ["-e", ""]).pid;
    for (const left of [`${dead} ${hostname()}\n`, "", "12", `${process.pid} ${hostname()}\n`]) {
      writeFileSync(join(folder, ".lock"), left);
      await (await FolderLock.acquire(folder)).release();
    }
  });

  it("takes over from a process that was killed while taking over", async () => {
    const dead = spawnSync(process.execPath, ["-e", ""]).pid;
    for (const name of [".lock", ".lock.claim"]) writeFileSync(join(folder, name), `${dead} ${hostname()}\n`);
    await (await FolderLock.acquire(folder)).release();
    assert.deepEqual(readdirSync(folder), []);
  });

  it("refuses the lock of another machine, whose processes it cannot see", async () => {
    writeFileSync(join(folder, ".lock"), "1 elsewhere\n");
    await assert.rejects(FolderLock.acquire(folder), { code: "ERR_USAGE", message: /process 1 on elsewhere.*delete/ });
    assert.ok(existsSync(join(folder, ".lock")));
  });

  it("goes to one process only when several take over at once", async () => {
    const dead = spawnSync(process.execPath, ["-e", ""]).pid;
    writeFileSync(join(folder, ".lock"), `${dead} ${hostname()}\n`);
    const script = `
      import { FolderLock } from ${moduleUrl};
      process.stdin.on("data", async () => {
        const won = await FolderLock.acquire(${JSON.stringify(folder)}).then(() => true, () => false);
        console.log(won ? "won" : "lost");
      });
      console.log("ready");`;
    const children = Array.from({ length: 3 }, () =>
      spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["pipe", "pipe", "inherit"] }),
    );
    const answer = async (child: (typeof children)[number]) => String((await once(child.stdout!, "data"))[0]).trim();
    try {
      await Promise.all(children.map(answer));
      const answers = Promise.all(children.map(answer));
      for (const child of children) child.stdin!.write("go\n");
      assert.deepEqual((await answers).sort(), ["lost", "lost", "won"]);
    } finally {
      for (const child of children) child.kill("SIGKILL");
    }
  });
});
