//! The numbers of proxy-wasm ABI 0.2.1: what a guest passes, and what it is told.

/// What a host function answers (`proxy_status_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Status {
    /// It is done.
    Ok = 0,
    /// What was asked for is not there.
    NotFound = 1,
    /// An argument is none of the values that it may have.
    BadArgument = 2,
    /// A serialised map cannot be read.
    ParseFailure = 4,
    /// A pointer, or a pointer and a size, leave the guest's memory.
    InvalidMemoryAccess = 6,
    /// The queue has nothing.
    Empty = 7,
    /// The value has changed since it was read.
    CasMismatch = 8,
    /// A bound of the host was reached, or the guest has no memory to take the answer.
    InternalFailure = 10,
    /// A request of the guest's own has no answer.
    BrokenConnection = 11,
    /// This host does not do that.
    Unimplemented = 12,
}

/// Why a host function does not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The guest is told.
    Told(Status),
    /// The guest trapped while the answer was handed over: it made its room itself.
    Trapped(wasmtime::Error),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Told(status)
    }
}

/// What most host functions come to.
pub(crate) type Answer = Result<(), Refusal>;

/// An answer as the guest gets it.
pub(crate) fn told(answer: Answer) -> wasmtime::Result<u32> {
    match answer {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Refusal::Told(status)) => Ok(status as u32),
        Err(Refusal::Trapped(error)) => Err(error),
    }
}

/// Header fields, by what has them (`proxy_map_type_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapKind {
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
    /// Of gRPC calls, which this host does not make: always empty.
    GrpcInitial,
    /// As above.
    GrpcTrailing,
    CallHeaders,
    CallTrailers,
}

impl MapKind {
    pub(crate) fn of(number: u32) -> Result<Self, Status> {
        Ok(match number {
            0 => Self::RequestHeaders,
            1 => Self::RequestTrailers,
            2 => Self::ResponseHeaders,
            3 => Self::ResponseTrailers,
            4 => Self::GrpcInitial,
            5 => Self::GrpcTrailing,
            6 => Self::CallHeaders,
            7 => Self::CallTrailers,
            _ => return Err(Status::BadArgument),
        })
    }
}

/// Bytes, by what has them (`proxy_buffer_type_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BufferKind {
    RequestBody,
    ResponseBody,
    /// Of TCP streams, gRPC calls and foreign functions: this host has none of them.
    Absent,
    CallBody,
    VmConfiguration,
    PluginConfiguration,
}

impl BufferKind {
    pub(crate) fn of(number: u32) -> Result<Self, Status> {
        Ok(match number {
            0 => Self::RequestBody,
            1 => Self::ResponseBody,
            2 | 3 | 5 | 8 => Self::Absent,
            4 => Self::CallBody,
            6 => Self::VmConfiguration,
            7 => Self::PluginConfiguration,
            _ => return Err(Status::BadArgument),
        })
    }
}

/// The half of an exchange that a guest resumes or ends (`proxy_stream_type_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Request,
    Response,
}

impl Half {
    pub(crate) fn of(number: u32) -> Result<Self, Status> {
        match number {
            0 => Ok(Self::Request),
            1 => Ok(Self::Response),
            // TCP streams.
            2 | 3 => Err(Status::Unimplemented),
            _ => Err(Status::BadArgument),
        }
    }
}

/// What a callback for a message answers (`proxy_action_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Continue,
    Pause,
}

impl Action {
    /// Older SDKs know several ways to pause (stop, stop and buffer, ..): to this host they are one, as to Envoy those for
    /// headers are.
    pub(crate) fn of(number: u32) -> Self {
        if number == 0 { Self::Continue } else { Self::Pause }
    }
}

/// The version of the ABI that a module is built for, told by an export that nobody calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// `proxy_abi_version_0_1_0`: callbacks for headers do not say whether the message ends with them.
    V0_1_0,
    /// `proxy_abi_version_0_2_0`.
    V0_2_0,
    /// `proxy_abi_version_0_2_1`.
    V0_2_1,
}

impl Version {
    /// All, the newest first.
    pub(crate) const ALL: [Version; 3] = [Self::V0_2_1, Self::V0_2_0, Self::V0_1_0];

    /// The export that tells it.
    pub(crate) fn export(self) -> &'static str {
        match self {
            Self::V0_1_0 => "proxy_abi_version_0_1_0",
            Self::V0_2_0 => "proxy_abi_version_0_2_0",
            Self::V0_2_1 => "proxy_abi_version_0_2_1",
        }
    }
}

/// What the functions of WASI answer (`errno`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Errno {
    Success = 0,
    BadDescriptor = 8,
    Fault = 21,
    Invalid = 28,
    NotSupported = 58,
}
