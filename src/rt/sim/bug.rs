//! Mistakes to make on purpose.

use super::world;

/// Mistakes that the code makes on demand, each at the one or two places that ask [`planted`], to show that the simulator
/// finds such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The last byte of what is put aside between two receives is lost.
    LostLeftover,
    /// A task that waits for a receive buffer learns nothing of one that returns.
    ForgottenWaiter,
    /// Parked tasks are woken by buffers that come back, and never tried again by themselves.
    NoRetry,
    /// A send of which the socket took a part is taken for whole.
    ShortSendTakenForWhole,
    /// The connection is closed over what the client still sends.
    NoLinger,
    /// A lingering connection keeps its receive buffer.
    LingerKeepsBuffer,
    /// A connection that a cut answer ends is closed over what its client sent ahead.
    CutOverUnread,
    /// A lingering connection waits for its client without end.
    EndlessLinger,
    /// A body's piece stays in its receive buffer while its handler waits, however few there are.
    HeldPiece,
    /// What a receive delivered before it ended, at the start of a body, is left lying until the handler asks for it.
    UnseenRest,
    /// A receive buffer is not given back.
    LeakedBuffer,
    /// The head time-out starts anew with each byte.
    PatientHead,
    /// The write time-out never comes.
    EndlessWrite,
    /// The idle time-out never comes.
    EndlessIdle,
    /// A deadline that is moved ahead is not found when it comes due.
    LostDeadline,
    /// What came while answers could not be sent is not looked at.
    ForgottenRest,
    /// One connection more than the limit is accepted.
    OneTooMany,
    /// Accepting ends for good when descriptors run out.
    NoMoreAccepts,
    /// A body whose last byte is missing is taken for whole.
    ImpatientBody,
    /// A failed send is taken for a whole one.
    IgnoredSendError,
    /// A request that panicked stays in flight for ever.
    PanicStaysInFlight,
    /// A short read of a file is taken for its end.
    ShortReadTakenForEnd,
    /// The drain has no deadline.
    EndlessDrain,
    /// A core keeps every config that it has served by.
    KeptGeneration,
    /// Another config closes the listening sockets of addresses that stay.
    DoorsShut,
    /// Not every worker is told to drain.
    ForgottenWorker,
    /// A worker that breaks down during a drain begins it anew.
    DrainAgain,
    /// A worker that broke down is not started again.
    NoRestart,
    /// It is started again at once, however often.
    NoBackoff,
    /// It is started again though the others drain.
    RestartInDrain,
    /// Nobody looks for the workers' signs of life.
    UnseenStall,
    /// The queue of a worker that is down is closed.
    QueueLost,
    /// The master takes a second signal for the first.
    DeafMaster,
    /// A process leaves before its successor serves.
    HastyLeave,
    /// A process leaves, and has its successor leave too.
    BothLeave,
    /// A process leaves because its successor failed.
    FailureLeaves,
    /// An upgrade is begun while another is under way.
    SecondSuccessor,
    /// After an upgrade that failed there can be no other.
    KeptTurn,
    /// A successor that did not come to serve is ended without being asked first.
    ForcedAtOnce,
    /// A successor that does not end when it is asked to is left alone.
    DeafSuccessorKept,
    /// Of listening sockets that are more than the workers, some have nobody.
    SocketLeftOut,
    /// An answer's date is of yesterday.
    StaleDate,
    /// A connection to a server is kept although the server said more than its answer.
    LeftoverReuse,
    /// A request that must not be sent twice is.
    PostAgain,
    /// A request to a server stays in flight for ever.
    ForgottenInFlight,
    /// A breaker that has opened never lets a probe through.
    BreakerStaysOpen,
    /// Who waited for a connection keeps its place among those who wait.
    PendingLeaked,
    /// A connection that becomes free is told to nobody.
    PendingForgotten,
    /// A server has all the time it likes for its answer.
    EndlessResponse,
    /// A chunked answer that breaks off is taken for whole.
    CutTakenForWhole,
    /// One connection to an upstream more than the limit.
    OneConnectionTooMany,
    /// What a server sends right behind its 101 is lost.
    EarlyBytesLost,
    /// Nobody looks how long nothing has moved in a tunnel.
    EndlessTunnel,
    /// The end of one side of a tunnel is not told to the other.
    HalfCloseLost,
    /// A server may switch protocols though nobody asked for it.
    UnaskedSwitch,
    /// A copy of a request is sent again where its connection was closed.
    CopyAgain,
    /// A copy of a request may take as long as its server goes on answering.
    EndlessCopy,
    /// Of several upstreams the first gets everything.
    FirstTarget,
    /// Trailers that concern the server's connection alone go on.
    HopTrailers,
    /// Trailers go to clients that did not say that they take them.
    UnaskedTrailers,
    /// A drained server is as good as any.
    DrainedPicked,
}

/// Whether this mistake is to be made.
pub fn planted(bug: Bug) -> bool {
    world::try_with(|world| world.options.planted == Some(bug)).unwrap_or(false)
}
