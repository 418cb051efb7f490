# SPDX-License-Identifier: Apache-2.0
# node: version, child_process, fs, timers, promises, worker threads.
set -e
node --version | cut -d. -f1
cat > n.js <<'S'
const cp = require('child_process'), fs = require('fs'), os = require('os'), { Worker, isMainThread, parentPort } = require('worker_threads');
if (!isMainThread) { parentPort.postMessage('from worker'); return; }
console.log(cp.execSync('echo sync').toString().trim());
cp.exec('exit 5', e => { console.log('code', e.code);
  const c = cp.spawn('cat'); let o = ''; c.stdout.on('data', d => o += d); c.on('close', (code) => { console.log(o, code);
    fs.writeFileSync('f', 'x'.repeat(100000)); fs.promises.readFile('f').then(b => { console.log(b.length); fs.mkdirSync('d/e', { recursive: true });
      fs.renameSync('f', 'd/f'); console.log(fs.readdirSync('d')); fs.rmSync('d', { recursive: true });
      const w = new Worker(__filename); w.on('message', m => { console.log(m); setTimeout(() => console.log('timer'), 20); }); }); });
  c.stdin.end('piped'); });
S
node n.js
