//! The linear memories of guests that can be interrupted, and the pages that their points write to.
//!
//! Invariant: a memory is a mapping of what Wasmtime wants reserved and guarded, of which the bytes of
//! its size can be used and no other; of a memory of points, which has no size, the first page of the
//! system can be written to until it is protected. No host code ever looks at that one: it is neither
//! exported nor named by anything but points.
//!
//! The only unsafe code of the runtime. What makes it safe: a mapping is made by its own struct and
//! unmapped when that goes; protection changes only within it; nothing but Wasmtime and compiled code
//! reads or writes what is mapped.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix::param::page_size;
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use super::MAKING;
use super::instrument::is_of_points;

/// A range of addresses of this process.
#[derive(Debug)]
struct Mapping {
    base: *mut c_void,
    bytes: usize,
}

// SAFETY: it is an address and a length; who may look at what is there, others decide.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves addresses of which none can be used yet.
    fn reserve(bytes: usize) -> std::io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address that the system chooses touches nothing that is there.
        let base = unsafe { mmap_anonymous(null_mut(), bytes, ProtFlags::empty(), flags)? };
        Ok(Self { base, bytes })
    }

    /// Lets a range, in whole pages, be used, or not any more.
    fn allow(&self, from: usize, to: usize, flags: MprotectFlags) -> std::io::Result<()> {
        assert!(from <= to && to <= self.bytes, "a range lies within its mapping");
        if from == to {
            return Ok(());
        }
        // SAFETY: the range lies within the mapping, which is this struct's own.
        unsafe { mprotect(self.base.byte_add(from), to - from, flags)? };
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this struct's own, and who could use it is gone.
        let unmapped = unsafe { munmap(self.base, self.bytes) };
        debug_assert!(unmapped.is_ok(), "a mapping of this process can be unmapped");
    }
}

/// The page that points write to.
#[derive(Debug)]
pub(in super::super) struct Page(Mapping);

impl Page {
    /// From now on, a point that writes to it ends in a trap.
    pub(super) fn protect(&self) -> std::io::Result<()> {
        self.0.allow(0, page_size(), MprotectFlags::empty())
    }

    /// Points can write to it again.
    pub(super) fn unprotect(&self) -> std::io::Result<()> {
        self.0.allow(0, page_size(), MprotectFlags::READ | MprotectFlags::WRITE)
    }
}

/// A memory of points as Wasmtime sees it: nothing but addresses that it may compute.
struct Points {
    page: Arc<Page>,
    reserved: usize,
}

// SAFETY: it has no bytes and gets none. What compiled code does beyond its size either traps or
// writes to a page that nobody reads.
unsafe impl LinearMemory for Points {
    fn byte_size(&self) -> usize {
        0
    }

    fn byte_capacity(&self) -> usize {
        self.reserved
    }

    fn grow_to(&mut self, _: usize) -> wasmtime::Result<()> {
        Err(wasmtime::Error::msg("the memory of points never grows"))
    }

    fn as_ptr(&self) -> *mut u8 {
        self.page.0.base.cast()
    }
}

/// A memory of a guest.
struct Linear {
    mapping: Mapping,
    /// How many bytes of it the guest has, and how many it can be given without moving.
    size: usize,
    reserved: usize,
}

// SAFETY: the first `size` bytes can be read and written, and only they, up to a page of the system;
// `reserved` and the guard behind it stay mapped at one address for as long as this lives.
unsafe impl LinearMemory for Linear {
    fn byte_size(&self) -> usize {
        self.size
    }

    fn byte_capacity(&self) -> usize {
        self.reserved
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        if new_size > self.reserved {
            return Err(wasmtime::Error::msg("a memory can't grow beyond what is reserved for it"));
        }
        let whole = |bytes: usize| bytes.next_multiple_of(page_size());
        let flags = MprotectFlags::READ | MprotectFlags::WRITE;
        self.mapping.allow(whole(self.size), whole(new_size), flags)?;
        self.size = new_size;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.mapping.base.cast()
    }
}

/// Makes the memories of guests that can be interrupted.
pub(in super::super) struct Creator;

// SAFETY: what is made has the size, the reservation and the guard that are asked for, is zero, and
// is used by nobody else.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        ty: MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let whole = |bytes: usize| bytes.next_multiple_of(page_size());
        let reserved = whole(reserved.or(maximum).unwrap_or(minimum).max(minimum)).max(page_size());
        let bytes =
            reserved.checked_add(whole(guard)).ok_or("a memory is larger than addresses")?;
        let failed = |e: std::io::Error| format!("{bytes} bytes of addresses can't be had: {e}");
        let mapping = Mapping::reserve(bytes).map_err(failed)?;
        if is_of_points(&ty) {
            let page = Arc::new(Page(mapping));
            page.unprotect().map_err(failed)?;
            let watch = MAKING.with_borrow(Clone::clone);
            let watch = watch.ok_or("an instance is made without a watch over its calls")?;
            watch.add(page.clone()).map_err(failed)?;
            return Ok(Box::new(Points { page, reserved }));
        }
        let mut memory = Linear { mapping, size: 0, reserved };
        memory.grow_to(minimum).map_err(|e| e.to_string())?;
        Ok(Box::new(memory))
    }
}
