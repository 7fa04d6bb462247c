//! What guests point at: every pointer and size is checked against the memory as it is at that moment.

use wasmtime::{AsContextMut, Caller, Memory, TypedFunc};

use super::abi::{Answer, Refusal, Status};
use super::host::Host;

/// A guest that called a host function.
pub(crate) type Guest<'a> = Caller<'a, Host>;

/// What the host needs of a guest while it answers.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) memory: Memory,
    /// Makes room in it: the guest's own allocator.
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
}

/// The guest's memory and the host's own state.
///
/// # Errors
/// While the module's start function runs: nothing is known of the module then.
pub(crate) fn parts<'g>(guest: &'g mut Guest<'_>) -> Result<(&'g mut [u8], &'g mut Host), Status> {
    let memory = guest.data().reach.as_ref().ok_or(Status::InvalidMemoryAccess)?.memory;
    Ok(memory.data_and_store_mut(guest.as_context_mut()))
}

/// `size` bytes from `pointer` on; nothing at all is at any place.
pub(crate) fn slice(memory: &[u8], pointer: u32, size: u32) -> Result<&[u8], Status> {
    if size == 0 {
        return Ok(&[]);
    }
    let start = pointer as usize;
    memory.get(start..start.saturating_add(size as usize)).ok_or(Status::InvalidMemoryAccess)
}

/// As [`slice`], to be written.
pub(crate) fn slice_mut(memory: &mut [u8], pointer: u32, size: u32) -> Result<&mut [u8], Status> {
    if size == 0 {
        return Ok(&mut []);
    }
    let start = pointer as usize;
    memory.get_mut(start..start.saturating_add(size as usize)).ok_or(Status::InvalidMemoryAccess)
}

/// The number at `pointer`.
pub(crate) fn number(memory: &[u8], pointer: u32) -> Result<u32, Status> {
    let bytes = slice(memory, pointer, 4)?;
    Ok(u32::from_le_bytes(bytes.try_into().unwrap_or_default()))
}

/// Writes a number at `pointer`.
pub(crate) fn put(memory: &mut [u8], pointer: u32, value: u32) -> Result<(), Status> {
    slice_mut(memory, pointer, 4)?.copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// Writes a long number at `pointer`.
pub(crate) fn put_long(memory: &mut [u8], pointer: u32, value: u64) -> Result<(), Status> {
    slice_mut(memory, pointer, 8)?.copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// Hands bytes over: `fill` looks them up and appends them to the buffer that it gets; the guest makes room for them, and is
/// told where they are, and their size.
///
/// The guest's allocator runs in the middle of this, and may call the host in turn: it gets nothing handed over then, or the
/// two could go on for ever.
pub(crate) fn give(
    guest: &mut Guest<'_>,
    pointer_at: u32,
    size_at: u32,
    fill: impl FnOnce(&[u8], &Host, &mut Vec<u8>) -> Result<(), Status>,
) -> Answer {
    let (memory, host) = parts(guest)?;
    if host.is_giving {
        return Err(Status::InternalFailure.into());
    }
    let mut bytes = std::mem::take(&mut host.scratch);
    bytes.clear();
    let answer = match fill(memory, host, &mut bytes) {
        Err(status) => Err(Refusal::Told(status)),
        Ok(()) => {
            host.is_giving = true;
            hand_over(guest, &bytes, pointer_at, size_at)
        }
    };
    let host = guest.data_mut();
    host.is_giving = false;
    host.scratch = bytes;
    answer
}

fn hand_over(guest: &mut Guest<'_>, bytes: &[u8], pointer_at: u32, size_at: u32) -> Answer {
    let size = u32::try_from(bytes.len()).map_err(|_| Status::InternalFailure)?;
    let place = if size == 0 {
        0
    } else {
        // Taken out for the call, and not copied: a copy would count references in the engine, which all cores share.
        let allocate = guest.data_mut().reach.as_mut().and_then(|reach| reach.allocate.take());
        let allocate = allocate.ok_or(Status::InternalFailure)?;
        let place = allocate.call(guest.as_context_mut(), size);
        if let Some(reach) = &mut guest.data_mut().reach {
            reach.allocate = Some(allocate);
        }
        match place.map_err(Refusal::Trapped)? {
            0 => return Err(Status::InternalFailure.into()),
            place => place,
        }
    };
    // Not before: the allocator may have made the memory larger, and moved it.
    let (memory, _) = parts(guest)?;
    slice_mut(memory, place, size)?.copy_from_slice(bytes);
    put(memory, pointer_at, place)?;
    put(memory, size_at, size)?;
    Ok(())
}
