//! The servers as processes: started on their cores, asked for their CPU time, ended.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

/// What a server says when it can be connected to.
const LISTENING: &str = "listening on ";

/// A running server; ended when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Held open, so that it can go on writing.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// The floor server.
    pub fn floor(cores: &str, threads: u32) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|error| format!("no own path: {error}"))?;
        let threads = threads.to_string();
        let arguments = ["--serve", "127.0.0.1:0", "--threads", &threads];
        Self::start(cores, &own.to_string_lossy(), &arguments)
    }

    /// Longwire with these settings.
    pub fn longwire(cores: &str, shards: u32, settings: &[String]) -> Result<Self, String> {
        let shards = shards.to_string();
        // Warnings about settings that only a measurement has are nobody's business.
        let quiet = ["--set", "log_level=error"];
        let mut arguments = vec!["--listen", "127.0.0.1:0", "--shards", &shards];
        arguments.extend(quiet);
        for setting in settings {
            arguments.extend(["--set", setting]);
        }
        Self::start(cores, env!("CARGO_BIN_EXE_longwire"), &arguments)
    }

    fn start(cores: &str, program: &str, arguments: &[&str]) -> Result<Self, String> {
        let failed = |error| format!("{program}: {error}");
        let mut command = on_cores(cores, program).map_err(failed)?;
        command.args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take();
        let stdout = stdout.ok_or_else(|| format!("{program}: no stdout"))?;
        let mut stdout = BufReader::new(stdout);
        match read_address(&mut stdout) {
            Some(address) => Ok(Self {
                child,
                address,
                _stdout: stdout,
            }),
            None => {
                // It has ended, or says something else than it should.
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("{program} {arguments:?} does not listen"))
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time its threads have had, in nanoseconds.
    pub fn cpu_ns(&self) -> Result<u64, String> {
        Ok(self.scheduled()?.run_ns)
    }

    /// How long its threads waited for their cores.
    pub fn waited(&self) -> Result<Waited, String> {
        let scheduled = self.scheduled()?;
        Ok(Waited {
            share: scheduled.waited_ns as f64 / scheduled.run_ns.max(1) as f64,
            each_us: scheduled.waited_ns as f64 / scheduled.turns.max(1) as f64 / 1000.0,
        })
    }

    fn scheduled(&self) -> Result<Scheduled, String> {
        let folder = format!("/proc/{}/task", self.pid());
        let failed = |error| format!("{folder}: {error}");
        let mut sum = Scheduled::default();
        for task in fs::read_dir(&folder).map_err(failed)? {
            let path = task.map_err(failed)?.path().join("schedstat");
            let text = fs::read_to_string(path).map_err(failed)?;
            let mut fields = text
                .trim_end()
                .split(' ')
                .map_while(|field| field.parse::<u64>().ok());
            let (Some(run_ns), Some(waited_ns), Some(turns)) =
                (fields.next(), fields.next(), fields.next())
            else {
                return Err(format!("{folder}: schedstat is {text:?}"));
            };
            sum.run_ns += run_ns;
            sum.waited_ns += waited_ns;
            sum.turns += turns;
        }
        Ok(sum)
    }
}

/// What the scheduler did with a process, over all its threads.
#[derive(Default)]
struct Scheduled {
    run_ns: u64,
    waited_ns: u64,
    turns: u64,
}

/// Waits of a server's threads for their cores.
pub struct Waited {
    /// As a part of the time they ran.
    pub share: f64,
    /// On average each time they began to run.
    pub each_us: f64,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address a server says it listens on; `None` if it ends without.
fn read_address(stdout: &mut impl BufRead) -> Option<SocketAddr> {
    let mut lines = stdout.lines().map_while(Result::ok);
    lines.find_map(|line| line.strip_prefix(LISTENING)?.parse().ok())
}

/// A command that will run on `cores` (all if empty), without settings from the environment, and end with
/// this process.
pub fn on_cores(cores: &str, program: &str) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--launch", cores, "--", program]);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("LONGWIRE_") {
            command.env_remove(key);
        }
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// Becomes the command, on its cores.
pub fn launch(cores: &str, command: &[String]) -> Result<(), String> {
    let mut set = CpuSet::new();
    for core in cores.split(',').filter(|core| !core.is_empty()) {
        let core = core.parse().ok().filter(|core| *core < CpuSet::MAX_CPU);
        set.set(core.ok_or_else(|| format!("cores {cores}: a list looks like 0,1"))?);
    }
    if !cores.is_empty() {
        sched_setaffinity(None, &set).map_err(|error| format!("cores {cores}: {error}"))?;
    }
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())?;
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let error = Command::new(program).args(arguments).exec();
    Err(format!("{program}: {error}"))
}
