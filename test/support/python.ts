/** The Python of this machine, for tests against its libraries. */
import { spawnSync } from "node:child_process";

/** A Python that has a module; null: none here. Debian's packages are not seen by a Python from elsewhere. */
export function pythonWith(module: string): string | null {
  const has = (python: string) => spawnSync(python, ["-c", `import ${module}`]).status === 0;
  return ["python3", "/usr/bin/python3"].find(has) ?? null;
}
