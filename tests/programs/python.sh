# SPDX-License-Identifier: Apache-2.0
# python3: threads, subprocess, sqlite3, json, tempfile, multiprocessing, asyncio, signals.
set -e
cat > p.py <<'S'
import asyncio, json, multiprocessing, os, queue, select, signal, socket, sqlite3, subprocess, sys, tempfile, threading, time, mmap, fcntl, struct, ctypes, shutil, zlib, hashlib
q = queue.Queue(); ts = [threading.Thread(target=lambda i=i: q.put(i * i)) for i in range(64)]
[t.start() for t in ts]; [t.join() for t in ts]; print(sum(q.queue))
print(subprocess.run(['sh', '-c', 'cat; echo err >&2; exit 3'], input=b'in', capture_output=True))
c = sqlite3.connect('x.db'); c.execute('create table t(a,b)'); c.executemany('insert into t values(?,?)', [(i, str(i)) for i in range(1000)]); c.commit()
print(c.execute('select sum(a), count(*) from t').fetchone()); c.close(); os.unlink('x.db')
print(json.dumps({'a': [1, 2.5, None]})); 
with tempfile.TemporaryDirectory() as d: open(os.path.join(d, 'f'), 'w').write('x'); print(os.listdir(d))
def sq(x): return x * x
if __name__ == '__main__':
    with multiprocessing.Pool(4) as p: print(p.map(sq, range(10)))
    ctx = multiprocessing.get_context('spawn'); 
    async def main():
        pr = await asyncio.create_subprocess_exec('echo', 'async', stdout=subprocess.PIPE); print((await pr.communicate())[0])
        a, b = socket.socketpair(); a.setblocking(False); b.setblocking(False); loop = asyncio.get_running_loop()
        await loop.sock_sendall(a, b'hello'); print(await loop.sock_recv(b, 10)); await asyncio.sleep(0.05)
    asyncio.run(main())
    signal.signal(signal.SIGALRM, lambda *_: print('alarm')); signal.setitimer(signal.ITIMER_REAL, 0.1); time.sleep(0.5)
    m = mmap.mmap(-1, 8192); 
    if os.fork() == 0: m[0:5] = b'child'; os._exit(0)
    os.wait(); print(m[0:5]); 
    with open('lock', 'w') as f: fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    r, w = os.pipe(); ep = select.epoll(); ep.register(r, select.EPOLLIN); print(ep.poll(0.01)); os.write(w, b'x'); print(len(ep.poll(1)))
    try: open('/nonexistent/x')
    except OSError as e: print(e)
    try: os.kill(os.getpid(), 0); os.kill(99999, 0)
    except OSError as e: print(e.strerror)
    print(sys.version_info[:2], os.getpid() > 0, len(os.sched_getaffinity(0)) > 0, os.stat('/').st_mode)
    print(hashlib.sha256(open('/usr/bin/python3', 'rb').read()).hexdigest()[:8])
S
python3 p.py; rm -rf __pycache__
python3 -c 'import http.client, email, xml.dom, decimal, unittest, logging, argparse, csv, ssl; print("imports")'
