//! The text of `loadgen --help`.

pub const USAGE: &str = "\
loadgen: load for the Berth daemon, on one thread; it believes only what it has checked itself

usage: loadgen [run] [OPTION]…              drive a daemon, verify everything, report on stdout
       loadgen fleet [OPTION]…              keep a fleet of simulated routers up until SIGINT or SIGTERM
       loadgen compare relay  --daemon PATH CPU time of a round trip against a bare relay without any parsing
       loadgen compare fanout --daemon PATH CPU time of an event against a bare one-in-N-out writer
       loadgen soak     --daemon PATH       all of that for hours, in waves: nothing may stay
       loadgen failures --daemon PATH       the five failures of the past, one after another
       loadgen fleets   --daemon PATH       big results and whole fleets, one scenario after another
       loadgen streams  --daemon PATH       one of those with figures of your own

where the daemon is (run and fleet)
  --router ADDR            router listener                                  [127.0.0.1:7000]
  --http ADDR              HTTP API                                         [127.0.0.1:7080]
  --app ADDR, --page ADDR  WebSocket listeners              [127.0.0.1:7001, 127.0.0.1:7002]
  --daemon PATH            start this daemon, take the ports from its ready line, stop it at the end
  --config FILE            its configuration; without one it gets free ports on 127.0.0.1
  --daemon-log FILE        where its log goes                                      [discarded]
  --pid PID                its process, for /proc; without it the owner of the router port is looked up

run: who
  --routers N              routers that connect, heartbeat, answer and emit             [200]
  --callers N              HTTP callers, keep-alive, one request outstanding each        [64]
  --apps N, --pages N      WebSocket watchers                                      [100, 100]
  --app-watch one|all      each app watches one router (they take turns), or all        [one]
  --page-watch one|all     the same for pages                                           [all]
  --prefix TEXT            router ids are the prefix and a number of four digits [run: load-]

run: what
  --event-rate R           events a second of each router; 0 is silence                 [1.0]
  --think-ms T             a caller's pause between answer and next command; 0: flat out [10]
  --command-rate R         commands a second of each caller, instead of --think-ms
  --client-command-rate R  commands a second of each app, by WebSocket                  [0.1]
  --command-bytes A[-B]    size of command payloads                                [100-400]
  --reply-bytes A[-B]      size of replies                                         [100-400]
  --event-bytes A[-B]      size of event bodies                                    [100-400]
  --big-bytes A[-B]        size of big bodies, which go in parts               [17000-50000]
  --big-share P            share of bodies that are big, of every kind, 0 to 1         [0.01]
  --json-share P           share of bodies that are JSON; the rest are bytes            [0.5]
  --oneway-share P         share of HTTP commands that are one-way                      [0.1]
  --fail-share P           share of commands that the router is asked to fail (502)    [0.01]
  --retain-share P         share of events that are sent with RETAIN                   [0.05]
  --timeout-ms T           deadline of commands                                       [10000]

run: how long
  --duration S             seconds of load, after all are connected                      [60]
  --ramp N                 connects a second                                           [1000]
  --drain S                seconds to wait for what is outstanding at the end            [10]
  --seed N                 everything random follows from it                  [from the clock]
  --json                   the report as JSON

  idle connections: --callers 0 --apps 0 --pages 0 --routers 10000 --event-rate 0 --duration 20

fleet
  --routers N --router ADDR --prefix TEXT --seed N as above           [200, prefix router-]
  --interval S             seconds between a router's `metrics` events                    [5]
  Command `echo` answers with its own body, `fail` with an error, any other with JSON:
  {\"router\",\"command\",\"received_bytes\"}. Any stream has 1000 JSON rows, or those of `?rows=N`.

compare
  --daemon PATH            the daemon, a release build                            [required]
  --baseline PATH          the bare one                    [`baseline` beside this program]
  --pairs N                runs of each, in turn; the ratio is the median                 [5]
  --count N                round trips or events of a run                  [100000 and 1000]
  --callers N              callers, each with a router of its own                        [64]
  --watchers N             watchers                                                     [500]
  --bytes N                payload of a command and of its reply, or of an event        [256]
  --json                   the result as JSON

soak
  --daemon PATH            the daemon, a release build                            [required]
  --hours N                how long; fractions are fine                                  [1]
  --csv FILE               where the samples go, one every 10 s                   [soak.csv]
  --report FILE            the report, HTML with plots                           [soak.html]
  --daemon-log FILE, --seed N as above

failures
  --daemon PATH            the daemon                                             [required]
  --only NAME              one of them: eventmachine, scala-remote-actors, akka, vapor, erlang
  --quick                  smaller figures, for a debug build: all five in about 90 s
  --planted                the daemon has the feature planted-faults: each scenario must fall
                           short by the figure of its own when its fault is planted
  --report FILE            the report, HTML with plots                       [failures.html]
  --daemon-log FILE, --seed N as above

fleets
  --daemon PATH            the daemon                                             [required]
  --only NAME              one of them: streams, streams-at-full-speed, streams-with-gaps,
                           streams-that-stall, big-command, fleet-commands, events
  --quick                  smaller figures, for a debug build: all seven in about 45 s
  --planted                as above, for those that have a fault of their own
  --report FILE            the report, HTML with plots                         [fleets.html]
  --daemon-log FILE, --seed N as above

streams
  --daemon PATH            the daemon                                             [required]
  --routers N              routers that have streams                                    [200]
  --streams N              streams of each                                                [1]
  --rows N                 rows of each stream                                         [5000]
  --row-bytes A[-B]        size of a row, up to 16376                               [64-1024]
  --json-share P           share of streams with JSON rows; the rest are octets         [0.5]
  --max-messages N         the window: items in flight, 1 to 1024                        [20]
  --max-bytes N            the window: row bytes in flight, 16384 to 1048576          [65536]
  --slow-share P           share of consumers that read slowly                          [0.5]
  --slow-rate N            bytes a second that a slow one reads                      [150000]
  --gap-every N            every so many rows of a stream one is left out; 0: never       [0]
  --reconnect-every N      every so many rows its router's connection breaks; 0: never    [0]
  --stall-ms T             all consumers stop reading for so long, again and again    [never]
  --report FILE            the report, HTML with plots                        [streams.html]
  --daemon-log FILE, --seed N as above

exit code: 0 no error of any kind, all held; 1 errors (each kind is in the report), or one
fell short; 2 bad usage
";
