//! What a service tells systemd (`sd_notify(3)`): that it is ready, stops, is alive, or has another main process.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where to tell it. Without systemd, nowhere: every call does nothing then.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often the watchdog wants a sign of life.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The one that these environment variables name.
    ///
    /// # Errors
    /// When there is one and it cannot be reached.
    pub fn new(variables: &[(OsString, OsString)]) -> io::Result<Self> {
        let value =
            |name: &str| variables.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str());
        let Some(path) = value("NOTIFY_SOCKET") else { return Ok(Self::default()) };
        let address = match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(path)?,
        };
        let number = |text: &OsStr| text.to_str().and_then(|text| text.parse::<u64>().ok());
        // Meant for this process, unless it says otherwise.
        let is_ours = value("WATCHDOG_PID").is_none_or(|pid| number(pid) == Some(u64::from(std::process::id())));
        let watchdog = value("WATCHDOG_USEC").filter(|_| is_ours).and_then(number).map(Duration::from_micros);
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some((socket, address)), watchdog: watchdog.filter(|every| !every.is_zero()) })
    }

    /// How often the watchdog wants to hear `WATCHDOG=1`; half of that is advised.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Tells it these assignments, one a line: `READY=1`, `STOPPING=1`, `RELOADING=1`, `WATCHDOG=1`, `MAINPID=4711`,
    /// `STATUS=…`.
    ///
    /// # Errors
    /// What `sendto` says; systemd may be gone, or its queue full.
    pub fn tell(&self, state: &str) -> io::Result<()> {
        match &self.socket {
            Some((socket, address)) => socket.send_to_addr(state.as_bytes(), address).map(drop),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
    }

    #[test]
    fn without_systemd_nothing_is_told_and_nothing_fails() {
        let notifier = Notifier::new(&[]).unwrap();
        notifier.tell("READY=1").unwrap();
        assert_eq!(notifier.watchdog(), None);
    }

    #[test]
    fn what_is_told_arrives_by_path_and_by_abstract_name() {
        let path = std::env::temp_dir().join(format!("ringfort-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("ringfort-notify-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, address) in [(by_path, path.display().to_string()), (by_name, format!("@{name}"))] {
            let notifier = Notifier::new(&variables(&[("NOTIFY_SOCKET", &address)])).unwrap();
            notifier.tell("READY=1\nSTATUS=serving").unwrap();
            let mut bytes = [0; 64];
            let length = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"READY=1\nSTATUS=serving");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_watchdog_is_that_of_this_process_alone() {
        let own = std::process::id().to_string();
        for (pid, expected) in [(None, true), (Some(own.as_str()), true), (Some("1"), false)] {
            let mut pairs = vec![("NOTIFY_SOCKET", "@ringfort-nobody"), ("WATCHDOG_USEC", "3000000")];
            pairs.extend(pid.map(|pid| ("WATCHDOG_PID", pid)));
            let notifier = Notifier::new(&variables(&pairs)).unwrap();
            assert_eq!(notifier.watchdog(), expected.then_some(Duration::from_secs(3)), "{pid:?}");
        }
    }
}
