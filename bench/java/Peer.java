// The workloads on Java's virtual threads: `Peer child WORKLOAD N` prints its figures, `Peer serve KIND N` serves until standard input
// ends. Those that the table has for Java only.

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.SynchronousQueue;

public class Peer {
    public static void main(String[] args) throws Exception {
        if (args.length != 3) {
            System.err.println("usage: Peer child WORKLOAD N | Peer serve KIND N");
            System.exit(2);
        }
        if (args[0].equals("serve")) {
            serve(args[1]);
            return;
        }
        int n = Integer.parseInt(args[2]);
        double[] figures = null;
        // The first rounds are for the compiler.
        for (int round = 0; round < (args[1].startsWith("sleepers") ? 1 : 3); round++) {
            figures = measure(args[1], n);
        }
        StringBuilder line = new StringBuilder();
        for (double figure : figures) {
            line.append(figure).append(' ');
        }
        System.out.println(line);
    }

    static double[] measure(String workload, int n) throws Exception {
        switch (workload) {
            case "spawn-join":
                return new double[] {spawnJoin(n) / n};
            case "spawn-1":
                return new double[] {spawnAll(n) / n};
            case "spawn-8":
                return new double[] {spawnFromEight(n) / n};
            case "yield-2":
                return new double[] {yielding(2, n) / n};
            case "yield-1000":
                return new double[] {yielding(1000, n) / n};
            case "ping-pong":
                return new double[] {pingPong(n) / n};
            case "sleepers-10k":
                return sleepInTurn(n);
            case "late":
                return late(n);
            default:
                throw new IllegalArgumentException("no such workload");
        }
    }

    static double spawnJoin(int n) throws Exception {
        long start = System.nanoTime();
        for (int i = 0; i < n; i++) {
            Thread.startVirtualThread(() -> {}).join();
        }
        return System.nanoTime() - start;
    }

    static double spawnAll(int n) throws Exception {
        long start = System.nanoTime();
        CountDownLatch all = new CountDownLatch(n);
        for (int i = 0; i < n; i++) {
            Thread.startVirtualThread(all::countDown);
        }
        all.await();
        return System.nanoTime() - start;
    }

    static double spawnFromEight(int n) throws Exception {
        long start = System.nanoTime();
        together(8, () -> {
            spawnAll(n / 8);
            return null;
        });
        return System.nanoTime() - start;
    }

    static double yielding(int threads, int n) throws Exception {
        long start = System.nanoTime();
        together(threads, () -> {
            for (int i = 0; i < n / threads; i++) {
                Thread.yield();
            }
            return null;
        });
        return System.nanoTime() - start;
    }

    static double pingPong(int n) throws Exception {
        SynchronousQueue<Integer> ping = new SynchronousQueue<>();
        SynchronousQueue<Integer> pong = new SynchronousQueue<>();
        Integer ball = 1;
        double[] took = new double[1];
        Thread.startVirtualThread(() -> {
            try {
                for (int i = 0; i < n; i++) {
                    pong.put(ping.take());
                }
            } catch (InterruptedException e) {
                throw new RuntimeException(e);
            }
        });
        together(1, () -> {
            long start = System.nanoTime();
            for (int i = 0; i < n; i++) {
                ping.put(ball);
                pong.take();
            }
            took[0] = System.nanoTime() - start;
            return null;
        });
        return took[0];
    }

    static double[] sleepInTurn(int n) throws Exception {
        final long nap = 10_000_000L;
        long start = System.nanoTime();
        long used = cpu();
        List<long[]> all = new ArrayList<>();
        together(n, () -> {
            long[] late = new long[400];
            int count = 0;
            while (System.nanoTime() - start < 3_000_000_000L && count < late.length) {
                long before = System.nanoTime();
                Thread.sleep(10);
                late[count++] = System.nanoTime() - before - nap;
            }
            synchronized (all) {
                all.add(Arrays.copyOf(late, count));
            }
            return null;
        });
        used = cpu() - used;
        long[] late = all.stream().flatMapToLong(Arrays::stream).sorted().toArray();
        return new double[] {(double) used / late.length, late[late.length / 2], late[late.length * 99 / 100]};
    }

    static double[] late(int n) throws Exception {
        long[] late = new long[n];
        together(1, () -> {
            for (int i = 0; i < n; i++) {
                long before = System.nanoTime();
                Thread.sleep(java.time.Duration.ofNanos(100_000));
                late[i] = System.nanoTime() - before - 100_000;
            }
            return null;
        });
        Arrays.sort(late);
        return new double[] {late[n / 2], late[n * 99 / 100]};
    }

    interface Work {
        Void run() throws Exception;
    }

    static void together(int threads, Work work) throws Exception {
        List<Thread> all = new ArrayList<>();
        for (int i = 0; i < threads; i++) {
            all.add(Thread.startVirtualThread(() -> {
                try {
                    work.run();
                } catch (Exception e) {
                    throw new RuntimeException(e);
                }
            }));
        }
        for (Thread thread : all) {
            thread.join();
        }
    }

    static long cpu() {
        return ProcessHandle.current().info().totalCpuDuration().get().toNanos();
    }

    static void serve(String kind) throws Exception {
        if (!kind.equals("echo")) {
            System.err.println("no such server");
            System.exit(2);
        }
        ServerSocket listener = new ServerSocket(0, 4096, InetAddress.getByName("127.0.0.1"));
        System.out.println("127.0.0.1:" + listener.getLocalPort());
        Thread.startVirtualThread(() -> {
            while (true) {
                try {
                    Socket socket = listener.accept();
                    Thread.startVirtualThread(() -> echo(socket));
                } catch (IOException e) {
                    return;
                }
            }
        });
        while (System.in.read() >= 0) {
        }
        System.exit(0);
    }

    static void echo(Socket socket) {
        byte[] buffer = new byte[1024];
        try (socket) {
            socket.setTcpNoDelay(true);
            while (true) {
                int n = socket.getInputStream().read(buffer);
                if (n < 0) {
                    return;
                }
                socket.getOutputStream().write(buffer, 0, n);
            }
        } catch (IOException e) {
            // The client is gone.
        }
    }
}
