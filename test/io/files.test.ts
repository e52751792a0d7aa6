import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { setTimeout } from "node:timers/promises";
import { AppendFile, readBytes, writeFileAtomic } from "../../src/io/files-node.js";

const scratch = mkdtempSync(join(tmpdir(), "dsnet-files-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

let folders = 0;
function newFolder(): string {
  const folder = join(scratch, String(folders++));
  mkdirSync(folder);
  return folder;
}

const bytes = (text: string) => new TextEncoder().encode(text);
const isRoot = process.getuid?.() === 0;

describe("readBytes", () => {
  it("returns a file's bytes", async () => {
    const path = join(newFolder(), "f");
    writeFileSync(path, "hello");
    assert.deepEqual(await readBytes(path), bytes("hello"));
  });

  it("names a file that is not there, and says when the path is a folder or leads through a file", async () => {
    const folder = newFolder();
    writeFileSync(join(folder, "f"), "");
    const missing = join(folder, "missing");
    await assert.rejects(readBytes(missing), {
      code: "ERR_USAGE",
      message: `There is no file ${missing}: check the path.`,
    });
    await assert.rejects(readBytes(folder), { code: "ERR_USAGE", message: /is a folder/ });
    await assert.rejects(readBytes(join(folder, "f", "g")), { code: "ERR_USAGE", message: /is a file, not a folder/ });
  });
});

describe("writeFileAtomic", () => {
  it("writes new files and replaces old ones, leaving nothing else in the folder", async () => {
    const folder = newFolder();
    const path = join(folder, "f");
    await writeFileAtomic(path, bytes("old, and longer"));
    await writeFileAtomic(path, [bytes("ne"), bytes(""), bytes("w")]);
    assert.equal(readFileSync(path, "utf8"), "new");
    assert.deepEqual(readdirSync(folder), ["f"]);
  });

  it("lets many writers of one path finish, and one of them win whole", async () => {
    const folder = newFolder();
    const path = join(folder, "f");
    await Promise.all([..."abcdefgh"].map((letter) => writeFileAtomic(path, bytes(letter.repeat(10_000)))));
    assert.match(readFileSync(path, "utf8"), /^([a-h])\1{9999}$/);
    assert.deepEqual(readdirSync(folder), ["f"]);
  });

  it("writes where a link leads, and leaves the link", async () => {
    const folder = newFolder();
    writeFileSync(join(folder, "there"), "old");
    symlinkSync("there", join(folder, "link"));
    await writeFileAtomic(join(folder, "link"), bytes("new"));
    assert.equal(readFileSync(join(folder, "there"), "utf8"), "new");
    assert.ok(lstatSync(join(folder, "link")).isSymbolicLink());
    assert.deepEqual(readdirSync(folder).sort(), ["link", "there"]);
  });

  it("puts no file in the place of a device", { skip: process.platform === "win32" && "no such device" }, async () => {
    await assert.rejects(writeFileAtomic("/dev/null", bytes("x")), { code: "ERR_USAGE", message: /device or a pipe/ });
    assert.ok(statSync("/dev/null").isCharacterDevice());
  });

  it("says when the folder is missing, or the target is a folder", async () => {
    const folder = newFolder();
    await assert.rejects(writeFileAtomic(join(folder, "no", "f"), bytes("")), {
      code: "ERR_STORAGE",
      message: /folder does not exist/,
    });
    mkdirSync(join(folder, "sub"));
    await assert.rejects(writeFileAtomic(join(folder, "sub"), bytes("")), {
      code: "ERR_STORAGE",
      message: /path is a folder/,
    });
    assert.deepEqual(readdirSync(folder), ["sub"], "the temporary file is gone");
  });

  it("says when permission is denied, and keeps the old file", {
    skip: isRoot && "root may write everywhere",
  }, async () => {
    const folder = newFolder();
    const path = join(folder, "f");
    writeFileSync(path, "old");
    chmodSync(folder, 0o555);
    await assert.rejects(writeFileAtomic(path, bytes("new")), { code: "ERR_STORAGE", message: /Permission denied/ });
    assert.equal(readFileSync(path, "utf8"), "old");
    chmodSync(folder, 0o755);
  });

  it("keeps the old file when the disk is full or read-only", async (t) => {
    const folder = newFolder();
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], { stdio: "ignore" });
    } catch {
      return t.skip("mounting a small file system is not allowed here");
    }
    try {
      const path = join(folder, "f");
      const old = new Uint8Array(100_000).fill(1);
      await writeFileAtomic(path, old);
      await assert.rejects(writeFileAtomic(path, new Uint8Array(200_000)), {
        code: "ERR_STORAGE",
        message: /disk is full.*free some space/,
      });
      assert.deepEqual(await readBytes(path), old);
      assert.deepEqual(readdirSync(folder), ["f"], "the temporary file is gone");
      await writeFileAtomic(path, new Uint8Array(100_000).fill(2));
      execFileSync("mount", ["-o", "remount,ro", folder]);
      await assert.rejects(writeFileAtomic(path, old), { code: "ERR_STORAGE", message: /read-only/ });
      assert.equal((await readBytes(path))[0], 2);
    } finally {
      execFileSync("umount", ["-l", folder]);
    }
  });

  it("killed at 20 random moments, leaves the whole old or the whole new file", async () => {
    const folder = newFolder();
    const path = join(folder, "f");
    const size = 300_000;
    const script = `
      import { writeFileAtomic } from ${JSON.stringify(new URL("../../src/io/files-node.js", import.meta.url).href)};
      for (let i = 0; ; i++) {
        await writeFileAtomic(${JSON.stringify(path)}, new Uint8Array(${size}).fill(i));
        if (i === 0) console.log("begun");
      }`;
    let unfinished = 0;
    for (let kill = 0; kill < 20; kill++) {
      const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      await once(child.stdout!, "data");
      await setTimeout(((kill * 7919) % 97) / 4);
      child.kill("SIGKILL");
      await once(child, "exit");
      const found = await readBytes(path);
      assert.equal(found.length, size);
      assert.ok(
        found.every((byte) => byte === found[0]),
        "the file mixes two versions",
      );
      const leftOver = readdirSync(folder).filter((name) => name !== "f");
      unfinished += leftOver.length;
      for (const name of leftOver) rmSync(join(folder, name));
    }
    assert.ok(unfinished > 0, "no kill hit a write: the test proves nothing");
  });
});

describe("AppendFile", () => {
  it("appends to what is there", () => {
    const path = join(newFolder(), "f");
    for (const text of ["a\n", "b\n"]) {
      const file = new AppendFile(path);
      file.append(text);
      file.sync();
      file.close();
    }
    assert.equal(readFileSync(path, "utf8"), "a\nb\n");
  });

  it("says when the disk is full", { skip: !existsSync("/dev/full") && "this system has no /dev/full" }, () => {
    const file = new AppendFile("/dev/full");
    assert.throws(() => file.append("line\n"), {
      code: "ERR_STORAGE",
      message: /append to \/dev\/full: The disk is full/,
    });
    file.close();
  });

  it("takes a half-written append back when the disk is full", (t) => {
    const folder = newFolder();
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], { stdio: "ignore" });
    } catch {
      return t.skip("mounting a small file system is not allowed here");
    }
    try {
      const file = new AppendFile(join(folder, "f"));
      file.append("whole line\n");
      assert.throws(() => file.append("x".repeat(200_000)), { code: "ERR_STORAGE" });
      assert.equal(readFileSync(join(folder, "f"), "utf8"), "whole line\n");
      file.append("fits\n");
      assert.equal(readFileSync(join(folder, "f"), "utf8"), "whole line\nfits\n");
      file.close();
    } finally {
      execFileSync("umount", ["-l", folder]);
    }
  });

  it("says when the folder is missing", () => {
    assert.throws(() => new AppendFile(join(newFolder(), "no", "f")), {
      code: "ERR_STORAGE",
      message: /folder does not exist/,
    });
  });
});
