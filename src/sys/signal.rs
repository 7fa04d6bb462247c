//! Signals as values: a handler writes into a self-pipe, a thread of ours reads it and calls back.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::{Handle, Signals};

/// Keeps the signals armed; dropping it disarms them and ends the thread.
pub struct Armed {
    handle: Handle,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Arms SIGTERM, SIGINT, SIGHUP and SIGUSR2: `on_signal` is called with the signal's name, in order, on a thread of its own.
/// Arm them before anything is started, so that none is missed.
///
/// # Errors
/// When the pipe or the thread cannot be made.
pub fn arm(mut on_signal: impl FnMut(&'static str) + Send + 'static) -> io::Result<Armed> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR2])?;
    let handle = signals.handle();
    let thread = std::thread::Builder::new().name("ringfort-signal".to_owned()).spawn(move || {
        for signal in signals.forever() {
            on_signal(match signal {
                SIGTERM => "SIGTERM",
                SIGHUP => "SIGHUP",
                SIGUSR2 => "SIGUSR2",
                _ => "SIGINT",
            });
        }
    })?;
    Ok(Armed { handle, thread: Some(thread) })
}

impl Drop for Armed {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
