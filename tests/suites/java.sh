# SPDX-License-Identifier: Apache-2.0
# OpenJDK 17: its compiler, and a program of threads, mappings, faults that become exceptions, children and sockets, with each collector.
set -e
cat > Main.java <<'S'
import java.io.*;
import java.lang.management.*;
import java.net.*;
import java.nio.*;
import java.nio.channels.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.concurrent.locks.*;
import java.util.stream.*;
import java.util.zip.*;

public class Main {
    static class Box { int value; Box next; }

    // Compiled code looks at no reference before it uses it: the fault of a null one becomes the exception.
    static int take(Box b) { return b.value + 1; }
    static void nulls() {
        int thrown = 0, sum = 0;
        Box box = new Box();
        for (int i = 0; i < 200_000; i++) {
            try {
                sum += take(i % 100 == 7 ? null : box);
            } catch (NullPointerException e) {
                thrown++;
            }
        }
        System.out.println("null pointers: " + thrown + " " + sum);
        try {
            new Box().next.value = 3;
        } catch (NullPointerException e) {
            System.out.println(e.getMessage());
        }
    }

    // The end of a stack is a page that may not be touched.
    static int deep(int n) { return n == 0 ? 0 : 1 + deep(n - 1); }
    static boolean overflows() {
        try {
            return deep(100_000_000) < 0;
        } catch (StackOverflowError e) {
            return true;
        }
    }
    static void stacks() throws Exception {
        boolean[] there = new boolean[3];
        there[0] = overflows();
        for (int i = 1; i < 3; i++) {
            final int k = i;
            Thread t = new Thread(null, () -> there[k] = overflows(), "deep", 256 << 10);
            t.start();
            t.join();
        }
        System.out.println("stack overflows: " + Arrays.toString(there));
    }

    static void threads() throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(16);
        ConcurrentHashMap<Integer, LongAdder> map = new ConcurrentHashMap<>();
        AtomicLong total = new AtomicLong();
        Object monitor = new Object();
        ReentrantLock lock = new ReentrantLock(true);
        long[] plain = new long[2];
        List<Future<Integer>> all = new ArrayList<>();
        for (int t = 0; t < 64; t++) {
            final int seed = t;
            all.add(pool.submit(() -> {
                for (int i = 0; i < 2000; i++) {
                    map.computeIfAbsent((seed + i) % 97, k -> new LongAdder()).increment();
                    total.addAndGet(i);
                    synchronized (monitor) { plain[0]++; }
                    if (i % 50 == 0) {
                        lock.lock();
                        try { plain[1]++; } finally { lock.unlock(); }
                    }
                }
                return seed;
            }));
        }
        int sum = 0;
        for (Future<Integer> f : all) sum += f.get();
        pool.shutdown();
        System.out.println("threads: " + sum + " " + map.values().stream().mapToLong(LongAdder::sum).sum() + " " + total + " " + plain[0] + " " + plain[1]
            + " " + pool.awaitTermination(60, TimeUnit.SECONDS));
        List<Thread> many = new ArrayList<>();
        CountDownLatch ready = new CountDownLatch(300), go = new CountDownLatch(1);
        AtomicInteger passed = new AtomicInteger();
        for (int i = 0; i < 300; i++) {
            Thread t = new Thread(() -> {
                ready.countDown();
                try { go.await(); passed.incrementAndGet(); } catch (InterruptedException e) { }
            });
            t.start();
            many.add(t);
        }
        ready.await();
        many.get(0).interrupt();
        many.get(0).join();
        go.countDown();
        for (Thread t : many) t.join();
        System.out.println("started together: " + passed + ", parallel sum " + LongStream.range(0, 1_000_000).parallel().sum());
    }

    static void mappings() throws Exception {
        Path p = Path.of("mapped");
        try (FileChannel c = FileChannel.open(p, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            MappedByteBuffer m = c.map(FileChannel.MapMode.READ_WRITE, 0, 8 << 20);
            for (int i = 0; i < m.capacity(); i += 4096) m.putInt(i, i);
            m.force();
            MappedByteBuffer own = c.map(FileChannel.MapMode.PRIVATE, 4096, 4096);
            own.putInt(0, -1);
            MappedByteBuffer read = c.map(FileChannel.MapMode.READ_ONLY, 0, 8 << 20);
            long sum = 0;
            for (int i = 0; i < read.capacity(); i += 4096) sum += read.getInt(i);
            System.out.println("mapped: " + sum + " " + own.getInt(0) + " " + read.getInt(4096) + " " + read.load().isDirect());
            try {
                read.put(0, (byte) 1);
            } catch (ReadOnlyBufferException e) {
                System.out.println("read-only");
            }
            // What lies behind the end of a file that has shrunk: the fault is an error of Java's.
            MappedByteBuffer gone = c.map(FileChannel.MapMode.READ_WRITE, 8 << 20, 1 << 20);
            c.truncate(8 << 20);
            String what = "nothing";
            try {
                gone.put(512 << 10, (byte) 1);
                what = "" + gone.get(600 << 10);
            } catch (InternalError e) {
                what = "InternalError";
            }
            System.out.println("behind the end: " + what);
            try (FileLock l = c.lock(0, 10, false)) {
                System.out.println("locked: " + l.isValid() + " " + l.isShared());
            }
        }
        CRC32 crc = new CRC32();
        crc.update(Files.readAllBytes(p));
        System.out.println("crc " + Long.toHexString(crc.getValue()));
        Files.delete(p);
    }

    static void garbage() {
        List<byte[]> kept = new ArrayList<>();
        long n = 0;
        for (int i = 0; i < 20_000; i++) {
            byte[] b = new byte[16 << 10];
            b[i % b.length] = 1;
            n += b.length;
            if (i % 200 == 0) kept.add(b);
        }
        System.gc();
        int ones = 0;
        for (byte[] b : kept) for (byte x : b) ones += x;
        System.out.println("garbage: " + n + " " + kept.size() + " " + ones);
        List<long[]> all = new ArrayList<>();
        try {
            while (true) all.add(new long[4 << 20]);
        } catch (OutOfMemoryError e) {
            int had = all.size();
            all = null;
            System.out.println("out of memory: " + (had > 0) + ", then " + new long[1 << 20].length);
        }
    }

    static void children() throws Exception {
        Process p = new ProcessBuilder("sh", "-c", "read x; echo \"got $x\"; echo err >&2; exit 7").start();
        try (Writer w = p.outputWriter()) { w.write("words\n"); }
        String out = new String(p.getInputStream().readAllBytes()), err = new String(p.getErrorStream().readAllBytes());
        System.out.println(out.trim() + " " + err.trim() + " " + p.waitFor());
        Process s = new ProcessBuilder("sleep", "1000").start();
        s.destroy();
        System.out.println("killed: " + s.waitFor() + " " + s.isAlive() + " " + ProcessHandle.current().isAlive());
        try {
            new ProcessBuilder("/no/such").start();
        } catch (IOException e) {
            System.out.println(e.getMessage());
        }
    }

    static void sockets() throws Exception {
        try (ServerSocketChannel server = ServerSocketChannel.open(); Selector selector = Selector.open()) {
            server.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0));
            Thread echo = new Thread(() -> {
                try (SocketChannel c = server.accept()) {
                    ByteBuffer b = ByteBuffer.allocateDirect(1 << 16);
                    while (c.read(b) >= 0) {
                        b.flip();
                        while (b.hasRemaining()) c.write(b);
                        b.clear();
                    }
                } catch (IOException e) { System.out.println(e); }
            });
            echo.start();
            SocketChannel c = SocketChannel.open(server.getLocalAddress());
            c.configureBlocking(false);
            c.register(selector, SelectionKey.OP_READ | SelectionKey.OP_WRITE);
            int sent = 0, got = 0;
            final int size = 4 << 20;
            ByteBuffer b = ByteBuffer.allocate(1 << 16);
            while (got < size) {
                selector.select();
                for (SelectionKey k : selector.selectedKeys()) {
                    if (k.isWritable() && sent < size) {
                        b.clear().limit(Math.min(b.capacity(), size - sent));
                        sent += c.write(b);
                        if (sent == size) k.interestOps(SelectionKey.OP_READ);
                    }
                    if (k.isReadable()) {
                        b.clear();
                        got += c.read(b);
                    }
                }
                selector.selectedKeys().clear();
            }
            c.close();
            echo.join();
            System.out.println("echo: " + sent + " " + got);
        }
        try {
            new Socket(InetAddress.getLoopbackAddress(), 1).close();
        } catch (ConnectException e) {
            System.out.println(e.getMessage());
        }
    }

    static void machine() throws Exception {
        Runtime r = Runtime.getRuntime();
        System.out.println("machine: " + (r.availableProcessors() > 0) + " " + (r.maxMemory() > 0) + " " + (ProcessHandle.current().pid() > 0)
            + " " + (ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime() > 0) + " " + ManagementFactory.getGarbageCollectorMXBeans().size());
        CountDownLatch heard = new CountDownLatch(1);
        sun.misc.Signal.handle(new sun.misc.Signal("USR2"), s -> heard.countDown());
        sun.misc.Signal.raise(new sun.misc.Signal("USR2"));
        System.out.println("signal: " + heard.await(60, TimeUnit.SECONDS));
        try (WatchService w = FileSystems.getDefault().newWatchService()) {
            Path d = Files.createDirectory(Path.of("watched"));
            d.register(w, StandardWatchEventKinds.ENTRY_CREATE);
            Files.writeString(d.resolve("new"), "x");
            System.out.println("watched: " + w.poll(60, TimeUnit.SECONDS).pollEvents().get(0).context());
            Files.delete(d.resolve("new"));
            Files.delete(d);
        }
        Files.createSymbolicLink(Path.of("link"), Path.of("Main.java"));
        System.out.println("files: " + Files.isSymbolicLink(Path.of("link")) + " " + Files.readAttributes(Path.of("link"), "unix:mode").size() + " "
            + PosixFilePermissions.toString(Files.getPosixFilePermissions(Path.of("Main.java"))));
        Files.delete(Path.of("link"));
    }

    public static void main(String[] args) throws Exception {
        nulls();
        stacks();
        threads();
        mappings();
        garbage();
        children();
        sockets();
        machine();
    }
}
S
javac Main.java
for collector in "" -XX:+UseZGC -XX:+UseSerialGC -XX:+UseParallelGC -XX:+UseShenandoahGC; do
  echo "== $collector"
  java $collector -Xmx256m Main
done
java -XX:+UseG1GC -Xint -Xmx64m -version 2>&1 | cut -d' ' -f1
jar cf main.jar *.class
java -cp main.jar -XX:+ShowCodeDetailsInExceptionMessages -Xmx256m Main | head -n 2
rm -f *.class main.jar Main.java
