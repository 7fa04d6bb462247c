//! Whose certificates are trusted.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_native_certs::{CertificateResult, load_native_certs};

/// The authorities (CA) that may vouch for a peer. At least one.
#[derive(Clone)]
pub struct Roots(pub(super) Arc<RootCertStore>);

impl Roots {
    /// Those that this host trusts, from the file of `SSL_CERT_FILE` and the directories of `SSL_CERT_DIR`, or from where the
    /// distribution has them. Reads files, some 200 KiB: for the blocking pool.
    ///
    /// # Errors
    /// There are none: why not, and what the operator can do.
    pub fn of_host() -> Result<Self, String> {
        Self::of_loaded(load_native_certs())
    }

    /// What can be read of these: one that cannot harms nobody but those whom it would vouch for.
    pub(super) fn of_loaded(loaded: CertificateResult) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(loaded.certs);
        if store.is_empty() {
            let why = loaded.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            return Err(format!(
                "this host has no certificate of an authority (CA) that it trusts{why}: install the distribution's \
                 (ca-certificates), or name a file of them in SSL_CERT_FILE"
            ));
        }
        Ok(Self(Arc::new(store)))
    }

    /// Those in a PEM text, and nobody else. Each must be good: somebody has named this very file.
    ///
    /// # Errors
    /// What was found instead; nothing of the text.
    pub fn of_pem(text: &[u8]) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        for (index, found) in CertificateDer::pem_slice_iter(text).enumerate() {
            let broken = || format!("a certificate that cannot be read (number {})", index + 1);
            store.add(found.map_err(|_| broken())?).map_err(|_| broken())?;
        }
        if store.is_empty() {
            let found = if text.trim_ascii().is_empty() { "nothing" } else { "no certificate" };
            return Err(found.to_owned());
        }
        Ok(Self(Arc::new(store)))
    }
}

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.0.roots == other.0.roots
    }
}

impl Eq for Roots {}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}
