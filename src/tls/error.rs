//! Why a connection with TLS cannot be had, or is over.

use std::{fmt, io};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Why there is no connection. It cannot be used any further, and nothing may be done without TLS instead.
#[derive(Debug)]
pub enum TlsError {
    /// The network's or this host's.
    Io(io::Error),
    /// The peer cannot show that it is who it should be.
    Certificate(CertificateError),
    /// The peer says that it does not want to.
    Refused(AlertDescription),
    /// The peer does not speak TLS, or not as it should.
    Protocol(Error),
    /// The peer ended the connection before the handshake was over.
    Cut,
    /// The peer sends more than any handshake needs ([`crate::limits::TLS_HANDSHAKE_BYTES_MAX`]).
    TooLong,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Certificate(error) => write_certificate(f, error),
            Self::Refused(alert) => write!(f, "its server refuses the TLS connection ({alert:?})"),
            // A server of another protocol, plain HTTP most of all.
            Self::Protocol(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                f.write_str("its server does not speak TLS")
            }
            Self::Protocol(error) => write!(f, "TLS failed: {error}"),
            Self::Cut => f.write_str("the connection was closed within the TLS handshake"),
            Self::TooLong => f.write_str("the TLS handshake is too long"),
        }
    }
}

/// Nothing of what the certificate says: nobody has vouched for it.
fn write_certificate(f: &mut fmt::Formatter<'_>, error: &CertificateError) -> fmt::Result {
    f.write_str("its server's certificate ")?;
    match error {
        CertificateError::UnknownIssuer => {
            f.write_str("is from an unknown issuer: no authority (CA) that is trusted here")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => f.write_str("has expired"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => f.write_str("is not valid yet"),
        CertificateError::NotValidForNameContext { expected, .. } => {
            write!(f, "is not for the name \"{}\"", expected.to_str())
        }
        CertificateError::NotValidForName => f.write_str("is not for its name"),
        CertificateError::Revoked => f.write_str("was revoked"),
        // What `openssl req -x509` makes unless it is told otherwise. It has no name of its own in rustls.
        CertificateError::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => {
            f.write_str("is that of an authority (CA:TRUE), which cannot be a server's")
        }
        // Ever more of them in newer versions, each of which says what it is.
        other => write!(f, "is refused: {other}"),
    }
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::Certificate(error),
            Error::AlertReceived(alert) => Self::Refused(alert),
            other => Self::Protocol(other),
        }
    }
}
