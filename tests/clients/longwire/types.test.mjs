// What is served: checked types, and small.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runInNewContext } from 'node:vm';
import { gzipSync } from 'node:zlib';
import ts from 'typescript';

const file = fileURLToPath(new URL('../../../src/console/longwire.js', import.meta.url));
const SIZE_MAX = 8192;

test('the types hold', () => {
  const options = { allowJs: true, checkJs: true, strict: true, noEmit: true, noUnusedLocals: true, noUnusedParameters: true, target: ts.ScriptTarget.ES2022, lib: ['lib.es2022.d.ts', 'lib.dom.d.ts'], types: [] };
  const problems = ts.getPreEmitDiagnostics(ts.createProgram([file], options));
  const text = ts.formatDiagnostics(problems, { getCanonicalFileName: (name) => name, getCurrentDirectory: () => '.', getNewLine: () => '\n' });
  assert.equal(text, '');
});

test(`it is smaller than ${SIZE_MAX} bytes, compressed`, async () => {
  const { length } = gzipSync(await readFile(file), { level: 9 });
  assert.ok(length < SIZE_MAX, `${length} bytes`);
});

test('it is a classic script, a module and a CommonJS module', async () => {
  const text = await readFile(file, 'utf8');
  const scope = {};
  runInNewContext(text, scope);
  assert.equal(typeof scope.Longwire, 'function');
  const fresh = {};
  runInNewContext(`'use strict'; (() => { ${text} })()`, fresh);
  assert.equal(typeof fresh.Longwire, 'function');
  const { default: Longwire } = await import(file);
  assert.equal(Longwire, createRequire(import.meta.url)(file));
  await import(`data:text/javascript;base64,${Buffer.from(text).toString('base64')}`);
  assert.equal(globalThis.Longwire.name, 'Longwire');
});
