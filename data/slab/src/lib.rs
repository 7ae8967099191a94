// SPDX-License-Identifier: BSD-3-Clause
//! The slab: one reserved range of addresses for all small blocks of the process (entries of keys, packed values), cut into
//! 64 KiB pages of one size class. A block has no header, and sizes are four bytes apart.
//!
//! A handle is an address relative to the range, divided by 4, in 40 bits. Each thread keeps a magazine of free blocks
//! per class and trades them in batches with the class's central list. A page whose blocks are all free goes back to the
//! pool of pages and its memory to the system. A large slab takes its memory in huge pages, which saves most of the TLB
//! misses that a lookup costs.
//!
//! Compaction (`begin_compaction`): the sparsest pages of a class get no new blocks. Whoever owns blocks there moves them
//! elsewhere (`is_sparse`, `alloc`, `free_sparse`), and the pages go back.
//!
//! Not here: what a block contains. Called by the keyspace for its entries and by packed values for their bytes.

mod bytes;

pub use bytes::{alloc_bytes, bytes_are_sparse, bytes_len, free_bytes, move_bytes, resize_bytes};

use parking_lot::Mutex;
use std::cell::RefCell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// The largest block; what is larger lives on the heap.
pub const BLOCK_LEN_MAX: usize = 1024;
const GRAIN: usize = 4;
const CLASSES: usize = BLOCK_LEN_MAX / GRAIN;
const PAGE_LEN: usize = 64 * 1024;
const HUGE_LEN: usize = 2 << 20;
/// From this size on the slab grows by huge pages; before, they would only make a small process larger.
const HUGE_FROM: usize = 32 << 20;
const RESERVE_MIN: usize = 64 << 30;
const MAGAZINE_LEN: usize = 32;
const MAGAZINE_BYTES: usize = 4 * 1024;
const NO_PAGE: u32 = u32::MAX;
const NO_BLOCK: u16 = u16::MAX;
const HANDLE_BITS: u32 = 40;

const _: () = assert!(PAGE_LEN / GRAIN < NO_BLOCK as usize);

/// Where a block is. Zero is no block: the first grain of the range is never handed out.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Handle(u64);

impl Handle {
    /// From what [`Handle::to_bytes`] gave.
    #[inline]
    pub fn from_bytes(bytes: [u8; 5]) -> Handle {
        Handle(u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])) | u64::from(bytes[4]) << 32)
    }

    /// In five bytes, little endian.
    #[inline]
    pub fn to_bytes(self) -> [u8; 5] {
        let b = self.0.to_le_bytes();
        [b[0], b[1], b[2], b[3], b[4]]
    }

    /// The handle of a block that begins at `ptr`.
    #[inline]
    pub fn of(ptr: *mut u8) -> Handle {
        Handle(((ptr.addr() - BASE.load(Ordering::Relaxed).addr()) / GRAIN) as u64)
    }

    /// The block's first byte. It may be read and written only while the caller owns the block.
    #[inline]
    pub fn ptr(self) -> *mut u8 {
        // Relaxed: whoever got a handle got it under a slot's lock, after the base had been set.
        BASE.load(Ordering::Relaxed).wrapping_add((self.0 as usize) * GRAIN)
    }
}

static BASE: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static SLAB: OnceLock<Slab> = OnceLock::new();

/// Reserves the range; must have run before the first `alloc`.
pub fn init() {
    SLAB.get_or_init(Slab::reserve);
}

/// The length of the block that `alloc(len)` returns.
#[inline]
pub const fn block_len(len: usize) -> usize {
    len.div_ceil(GRAIN) * GRAIN
}

#[inline]
fn class_of(len: usize) -> usize {
    debug_assert!(len > 0 && len <= BLOCK_LEN_MAX);
    len.div_ceil(GRAIN) - 1
}

/// Blocks that a thread keeps of a class: fewer of large ones, because all threads keep some of all classes.
#[inline]
const fn magazine_len(class: usize) -> usize {
    let fitting = MAGAZINE_BYTES / ((class + 1) * GRAIN);
    if fitting < MAGAZINE_LEN { fitting } else { MAGAZINE_LEN }
}

const _: () = assert!(magazine_len(CLASSES - 1) >= 4);

/// A block of at least `len` bytes (1 to `BLOCK_LEN_MAX`), with undefined contents.
#[inline]
pub fn alloc(len: usize) -> Handle {
    let class = class_of(len);
    let taken = MAGAZINES.try_with(|magazines| {
        let magazine = &mut magazines.borrow_mut().0[class];
        if magazine.is_empty() {
            slab().take(class, magazine_len(class) / 2, magazine);
        }
        magazine.pop()
    });
    match taken {
        Ok(Some(block)) => block,
        // The thread is ending and its magazines are gone.
        _ => {
            let mut one = Vec::new();
            slab().take(class, 1, &mut one);
            one.pop().expect("take delivers or aborts")
        }
    }
}

/// Returns a block that `alloc(len)` gave.
///
/// # Safety
/// The caller owns the block, `len` is of the same class as at `alloc`, and nothing uses the block afterwards.
#[inline]
pub unsafe fn free(block: Handle, len: usize) {
    let class = class_of(len);
    let kept = MAGAZINES.try_with(|magazines| {
        let magazine = &mut magazines.borrow_mut().0[class];
        let len = magazine_len(class);
        if magazine.len() >= len {
            // The oldest go back: the newest are still in the cache.
            // SAFETY: blocks in a magazine are free and of its class.
            unsafe { slab().give(class, &magazine[..len / 2]) };
            magazine.drain(..len / 2);
        }
        magazine.push(block);
    });
    if kept.is_err() {
        // SAFETY: the caller's promise.
        unsafe { slab().give(class, &[block]) };
    }
}

/// Bytes of pages that are in use (blocks that wait in magazines and central lists included).
pub fn page_bytes() -> usize {
    let pool = slab().pool.lock();
    (pool.fresh as usize - pool.free.len()) * PAGE_LEN
}

/// Bytes of blocks that are handed out; up to a magazine for each class and thread of them wait to be used.
pub fn block_bytes() -> usize {
    slab().classes.iter().enumerate().map(|(class, central)| central.lock().used * (class + 1) * GRAIN).sum()
}

/// Marks the pages that can be emptied into the other pages of their class, in classes that have more than
/// `slack_percent` more pages than they need. Returns how many. Ends an earlier compaction.
pub fn begin_compaction(slack_percent: usize) -> usize {
    end_compaction();
    let slab = slab();
    let mut marked = slab.marked.lock();
    for (class, central) in slab.classes.iter().enumerate() {
        let mut central = central.lock();
        let per_page = PAGE_LEN / GRAIN / (class + 1);
        let needed = central.used.div_ceil(per_page) + 1;
        let pages = central.pages as usize;
        if pages * 100 <= needed * (100 + slack_percent) {
            continue;
        }
        let mut candidates = Vec::new();
        let mut number = central.head;
        while number != NO_PAGE {
            // SAFETY: a listed page is of this class, whose lock is held.
            let page = unsafe { slab.page(number) };
            candidates.push((page.used, number));
            number = page.next;
        }
        candidates.sort_unstable();
        for (_, number) in candidates.into_iter().take(pages - needed) {
            slab.unlist(&mut central, number);
            slab.sparse(number).store(true, Ordering::Relaxed);
            marked.push((class, number));
        }
    }
    drop(marked);
    give_back_magazines();
    slab.marked.lock().len()
}

/// Lets the pages that could not be emptied be used again.
pub fn end_compaction() {
    let slab = slab();
    for (class, number) in slab.marked.lock().drain(..) {
        let mut central = slab.classes[class].lock();
        // A page that became empty is unmarked, and may be of another class by now.
        if slab.sparse(number).swap(false, Ordering::Relaxed) {
            slab.list(&mut central, number);
        }
    }
}

/// Whether the block is in a page that is to be emptied.
#[inline]
pub fn is_sparse(block: Handle) -> bool {
    slab().sparse((block.0 as usize / (PAGE_LEN / GRAIN)) as u32).load(Ordering::Relaxed)
}

/// As `free`, past the thread's magazine, from which `alloc` would hand the block out again.
///
/// # Safety
/// As for `free`.
pub unsafe fn free_sparse(block: Handle, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { slab().give(class_of(len), &[block]) };
}

/// The thread's spare blocks may lie in sparse pages: they go back.
fn give_back_magazines() {
    // A thread that is ending has none.
    let _ = MAGAZINES.try_with(|magazines| magazines.borrow_mut().give_back());
}

fn slab() -> &'static Slab {
    SLAB.get_or_init(Slab::reserve)
}

struct Magazines(Box<[Vec<Handle>]>);

impl Magazines {
    fn give_back(&mut self) {
        for (class, magazine) in self.0.iter_mut().enumerate() {
            // SAFETY: blocks in a magazine are free and of its class.
            unsafe { slab().give(class, magazine) };
            magazine.clear();
        }
    }
}

impl Drop for Magazines {
    fn drop(&mut self) {
        self.give_back();
    }
}

thread_local! {
    static MAGAZINES: RefCell<Magazines> = RefCell::new(Magazines((0..CLASSES).map(|_| Vec::new()).collect()));
}

/// One page's bookkeeping. All fields are guarded by the lock of the page's class.
#[derive(Clone, Copy)]
#[repr(C)]
struct Page {
    /// Neighbours in the class's list of pages with free blocks.
    previous: u32,
    next: u32,
    /// Blocks that are handed out (to magazines or users).
    used: u16,
    /// First grain of the first free block, `NO_BLOCK` for none; each free block begins with the next one's.
    free: u16,
    /// First grain that was never handed out.
    fresh: u16,
    is_listed: bool,
}

struct Central {
    /// First page that has a free block.
    head: u32,
    pages: u32,
    /// Blocks that are handed out (to magazines or users).
    used: usize,
}

struct Pool {
    free: Vec<u32>,
    /// First page that was never used.
    fresh: u32,
}

struct Slab {
    base: *mut u8,
    pages: *mut Page,
    /// By page: it is to be emptied. Changed under the lock of the page's class, read by anyone.
    sparse: *const AtomicBool,
    /// The pages that the compaction in progress marked, with their classes.
    marked: Mutex<Vec<(usize, u32)>>,
    page_count: u32,
    classes: Box<[Mutex<Central>]>,
    pool: Mutex<Pool>,
}

// SAFETY: `base`, `sparse` and `pages` point to mappings that live as long as the process; `Page`s are reached under the lock of
// their class only.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

fn map(len: usize) -> Option<*mut u8> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    (address != libc::MAP_FAILED).then_some(address.cast())
}

fn ram_bytes() -> usize {
    // SAFETY: sysconf has no preconditions.
    let (pages, page_len) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    usize::try_from(pages).unwrap_or(0).saturating_mul(usize::try_from(page_len).unwrap_or(0))
}

impl Slab {
    fn reserve() -> Slab {
        let most = 1usize << (HANDLE_BITS + GRAIN.trailing_zeros());
        let mut len = RESERVE_MIN.max(ram_bytes().saturating_mul(4)).min(most);
        // A limit on address space (ulimit -v, a container's) may refuse the wish: take what is granted.
        let base = loop {
            match map(len + HUGE_LEN) {
                Some(base) => break base.wrapping_add(base.align_offset(HUGE_LEN)),
                None if len > PAGE_LEN * 16 => len /= 2,
                None => panic!("no address space for the slab"),
            }
        };
        let page_count = u32::try_from(len / PAGE_LEN).unwrap_or(NO_PAGE - 1);
        let pages = map(page_count as usize * size_of::<Page>()).expect("address space for the slab's page table");
        let sparse = map(page_count as usize).expect("address space for the slab's page table");
        BASE.store(base, Ordering::Relaxed);
        Slab {
            base,
            sparse: sparse.cast(),
            marked: Mutex::default(),
            pages: pages.cast(),
            page_count,
            classes: (0..CLASSES).map(|_| Mutex::new(Central { head: NO_PAGE, pages: 0, used: 0 })).collect(),
            // Page 0 stays unused, so that no handle is zero.
            pool: Mutex::new(Pool { free: Vec::new(), fresh: 1 }),
        }
    }

    /// # Safety
    /// The caller holds the lock of the page's class, or has just taken the page from the pool.
    #[allow(clippy::mut_from_ref)]
    unsafe fn page(&self, page: u32) -> &mut Page {
        debug_assert!(page < self.page_count);
        // SAFETY: in bounds of the mapping, which is zeroed at first (a valid Page); exclusive by the caller's promise.
        unsafe { &mut *self.pages.add(page as usize) }
    }

    fn grain_ptr(&self, page: u32, grain: u16) -> *mut u16 {
        self.base.wrapping_add(page as usize * PAGE_LEN + grain as usize * GRAIN).cast()
    }

    fn handle(page: u32, grain: u16) -> Handle {
        Handle((page as usize * (PAGE_LEN / GRAIN)) as u64 + u64::from(grain))
    }

    /// Adds `count` free blocks of the class to `into`.
    fn take(&self, class: usize, count: usize, into: &mut Vec<Handle>) {
        let grains = (class + 1) as u16;
        let mut central = self.classes[class].lock();
        for _ in 0..count {
            if central.head == NO_PAGE {
                let number = self.take_page();
                // SAFETY: just taken from the pool.
                let page = unsafe { self.page(number) };
                *page = Page { previous: NO_PAGE, next: NO_PAGE, used: 0, free: NO_BLOCK, fresh: 0, is_listed: true };
                central.head = number;
                central.pages += 1;
            }
            central.used += 1;
            let number = central.head;
            // SAFETY: a listed page is of this class, whose lock is held.
            let page = unsafe { self.page(number) };
            let grain = if page.free != NO_BLOCK {
                let grain = page.free;
                // SAFETY: a free block's first bytes are the list's.
                page.free = unsafe { *self.grain_ptr(number, grain) };
                grain
            } else {
                let grain = page.fresh;
                page.fresh += grains;
                grain
            };
            page.used += 1;
            let has_fresh = (page.fresh + grains) as usize <= PAGE_LEN / GRAIN;
            if page.free == NO_BLOCK && !has_fresh {
                self.unlist(&mut central, number);
            }
            into.push(Self::handle(number, grain));
        }
    }

    /// # Safety
    /// The blocks are of the class and nothing uses them any more.
    unsafe fn give(&self, class: usize, blocks: &[Handle]) {
        if blocks.is_empty() {
            return;
        }
        let mut central = self.classes[class].lock();
        for block in blocks {
            let number = (block.0 as usize / (PAGE_LEN / GRAIN)) as u32;
            let grain = (block.0 as usize % (PAGE_LEN / GRAIN)) as u16;
            // SAFETY: the page of a block of this class, whose lock is held.
            let page = unsafe { self.page(number) };
            // SAFETY: the block is free, so its bytes are the list's.
            unsafe { *self.grain_ptr(number, grain) = page.free };
            page.free = grain;
            page.used -= 1;
            central.used -= 1;
            let is_empty = page.used == 0;
            if self.sparse(number).load(Ordering::Relaxed) {
                if is_empty {
                    self.sparse(number).store(false, Ordering::Relaxed);
                    central.pages -= 1;
                    self.give_page(number);
                }
                continue;
            }
            if !page.is_listed {
                self.list(&mut central, number);
            }
            // The last page with free blocks stays, lest a single block that comes and goes costs a page fault each time.
            // SAFETY: as above.
            let is_only = unsafe { self.page(number) }.next == NO_PAGE && central.head == number;
            if is_empty && !is_only {
                self.unlist(&mut central, number);
                central.pages -= 1;
                self.give_page(number);
            }
        }
    }

    fn list(&self, central: &mut Central, number: u32) {
        let next = central.head;
        // SAFETY: the caller holds the lock of the page's class, as the exclusive `central` shows.
        let page = unsafe { self.page(number) };
        page.previous = NO_PAGE;
        page.next = next;
        page.is_listed = true;
        if next != NO_PAGE {
            // SAFETY: a listed page is of the same class.
            unsafe { self.page(next) }.previous = number;
        }
        central.head = number;
    }

    fn unlist(&self, central: &mut Central, number: u32) {
        // SAFETY: the caller holds the lock of the page's class, as the exclusive `central` shows.
        let page = unsafe { self.page(number) };
        let (previous, next) = (page.previous, page.next);
        page.is_listed = false;
        if previous == NO_PAGE {
            central.head = next;
        } else {
            // SAFETY: a listed page is of the same class, and not `number`.
            unsafe { self.page(previous) }.next = next;
        }
        if next != NO_PAGE {
            // SAFETY: as above.
            unsafe { self.page(next) }.previous = previous;
        }
    }

    fn take_page(&self) -> u32 {
        let mut pool = self.pool.lock();
        if let Some(page) = pool.free.pop() {
            return page;
        }
        let page = pool.fresh;
        assert!(page < self.page_count, "the slab's address range is used up");
        pool.fresh += 1;
        let at = page as usize * PAGE_LEN;
        if at >= HUGE_FROM && at.is_multiple_of(HUGE_LEN) {
            self.back_by_huge_page(at);
        }
        page
    }

    /// Has the kernel put one huge page under the address. Asked for each time, so that it does not later fill the holes
    /// that freed pages leave, as it might in a range that is advised to be huge.
    fn back_by_huge_page(&self, at: usize) {
        const MADV_COLLAPSE: libc::c_int = 25;
        let start = self.base.wrapping_add(at);
        // SAFETY: nobody owns anything in these pages yet. A kernel that does not know the advice, or has no huge page,
        // refuses, and small pages serve.
        unsafe {
            start.write_volatile(0);
            libc::madvise(start.cast(), HUGE_LEN, MADV_COLLAPSE);
        }
    }

    fn sparse(&self, page: u32) -> &AtomicBool {
        debug_assert!(page < self.page_count);
        // SAFETY: in bounds of the mapping, which is zeroed at first (false) and lives as long as the process.
        unsafe { &*self.sparse.add(page as usize) }
    }

    fn give_page(&self, page: u32) {
        // SAFETY: the whole page is free and unlisted; its next reader treats it as undefined.
        unsafe {
            libc::madvise(self.base.add(page as usize * PAGE_LEN).cast(), PAGE_LEN, libc::MADV_DONTNEED);
        }
        self.pool.lock().free.push(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap_and_pages_come_back() {
        init();
        let mut blocks = Vec::new();
        for round in 0..3u8 {
            for number in 0..20_000usize {
                let len = 1 + (number * 37) % BLOCK_LEN_MAX;
                let block = alloc(len);
                // SAFETY: the block is ours and `len` bytes long.
                unsafe { std::ptr::write_bytes(block.ptr(), number as u8 ^ round, len) };
                blocks.push((block, len, number as u8 ^ round));
            }
            for (block, len, fill) in blocks.drain(..) {
                // SAFETY: as above.
                let bytes = unsafe { std::slice::from_raw_parts(block.ptr(), len) };
                assert!(bytes.iter().all(|&byte| byte == fill));
                // SAFETY: allocated with this length, not used afterwards.
                unsafe { free(block, len) };
            }
        }
        assert!(page_bytes() < 64 << 20);
    }

    #[test]
    fn handles_round_trip() {
        for number in [0, 1, 0xff, 0x12_3456_789a, (1 << 40) - 1] {
            assert_eq!(Handle::from_bytes(Handle(number).to_bytes()), Handle(number));
        }
    }
}
