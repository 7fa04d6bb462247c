//! The master's side of the admin listener: its socket, and the core that serves it on the master's executor.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{ServeError, sockets};
use crate::admin::{self, State};
use crate::clock;
use crate::config::Snapshot;
use crate::conn::{self, Core, Door, Settings};
use crate::handler::{self, Routes};
use crate::metrics::ShardWriter;
use crate::router::RouterBuf;
use crate::rt::{self, Listener, Mailbox};
use crate::sys::handover::{Inheritance, Purpose};

/// Connections that the admin listener holds at once.
const ADMIN_CONNECTIONS: usize = 256;

/// The socket, before anybody answers there.
pub(super) struct AdminSocket {
    /// As the config has it.
    configured: SocketAddr,
    /// With its real port.
    pub(super) address: SocketAddr,
    socket: OwnedFd,
}

impl AdminSocket {
    /// Opens it, unless it was handed over.
    ///
    /// # Errors
    /// [`ServeError::Listen`].
    pub(super) fn open(configured: SocketAddr, inheritance: &mut Inheritance) -> Result<Self, ServeError> {
        let inherited = inheritance.take_of(Purpose::Admin, configured).into_iter().next();
        let (socket, address) = match inherited {
            Some(socket) => {
                let address = crate::sys::socket::local_address(&socket);
                (socket, address.map_err(|error| ServeError::Listen { address: configured, error })?)
            }
            None => {
                sockets::probe_free(configured)?;
                sockets::open_one(configured)?
            }
        };
        Ok(Self { configured, address, socket })
    }

    /// Prepares what answers there.
    pub(super) fn listener(self, state: &Rc<State>, snapshot: &Snapshot) -> AdminListener {
        let empty = RouterBuf::build(&[]).unwrap_or_else(|_| unreachable!("a router without routes has no errors"));
        let routes = Arc::new(Routes::new(&[&admin::ROUTES], empty, Vec::new(), Vec::new()));
        let settings = Settings { connections: ADMIN_CONNECTIONS, ..snapshot.settings.clone() };
        let metrics = ShardWriter::create(u32::MAX, 1, routes.names().len());
        let context = handler::Context::default().with(state.clone());
        let core = Core::new(settings, routes, metrics, u64::from(u8::MAX), context);
        AdminListener { configured: self.configured, socket: self.socket, core, accepting: RefCell::default() }
    }
}

/// Serves the admin routes on the master's executor.
pub(super) struct AdminListener {
    /// As the config has it.
    pub(super) configured: SocketAddr,
    /// The original, for a successor.
    pub(super) socket: OwnedFd,
    core: Rc<Core>,
    /// Ends with the accept loop.
    accepting: RefCell<Option<Mailbox<()>>>,
}

impl AdminListener {
    /// Begins to accept.
    ///
    /// # Errors
    /// [`ServeError::Duplicate`].
    pub(super) fn open(&self) -> Result<(), ServeError> {
        let socket = self.socket.try_clone().map_err(ServeError::Duplicate)?;
        let (post, accepting) = rt::mailbox(1);
        let accept = conn::accept(Listener::new(socket), Door::default(), self.core.clone());
        rt::spawn(async move {
            accept.await;
            drop(post);
        });
        self.accepting.replace(Some(accepting));
        Ok(())
    }

    /// Accepts no more, when whoever stands in the queue has been let in.
    pub(super) async fn close(&self) {
        self.core.close();
        let accepting = self.accepting.take();
        if let Some(accepting) = accepting {
            accepting.next().await;
        }
    }

    /// Ends the connections after the answers that they are at; waits for that, at most so long.
    pub(super) async fn drain(self, most: Duration) {
        drop(self.socket);
        self.core.drain();
        rt::timeout(clock::now() + most, poll_fn(|cx| self.core.poll_idle(cx))).await;
    }
}
