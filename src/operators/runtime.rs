//! Safe wrappers of the part of ONNX Runtime's C interface that the operators need.
//!
//! Each C function returns a status, which is null on success. Here it becomes a `Result` whose
//! error is the message of the runtime.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_void},
    fmt,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr, slice,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use half::{bf16, f16};
use ort_sys::{OrtApi, OrtErrorCode, OrtKernelContext, OrtKernelInfo, OrtStatusPtr, OrtValue};

/// A result whose error is a message for the user.
pub(super) type OrtResult<T> = Result<T, String>;

/// The functions of a loaded runtime.
#[derive(Clone, Copy)]
pub(super) struct Runtime {
    api: &'static OrtApi,
}

impl Runtime {
    /// The runtime with this table; `None` for null.
    ///
    /// # Safety
    /// `api` is null or the function table of a runtime, of version 18 or later.
    pub(super) unsafe fn of(api: *const OrtApi) -> Option<Self> {
        // SAFETY: the table is a constant of a library that is never unloaded.
        unsafe { api.as_ref() }.map(|api| Self { api })
    }

    /// The address of the table, which identifies the runtime.
    pub(super) fn address(self) -> usize {
        ptr::from_ref(self.api).addr()
    }

    pub(super) fn api(self) -> &'static OrtApi {
        self.api
    }

    /// A status with an error message; the runtime owns it.
    pub(super) fn error(self, message: &str) -> OrtStatusPtr {
        let message = CString::new(message.replace('\0', "\u{fffd}")).unwrap_or_default();
        // SAFETY: the text ends with a zero and is copied.
        unsafe { (self.api.CreateStatus)(OrtErrorCode::ORT_FAIL, message.as_ptr()) }
    }

    /// The message of the runtime, if the status is an error.
    pub(super) fn check(self, status: OrtStatusPtr) -> OrtResult<()> {
        if status.0.is_null() {
            return Ok(());
        }
        // SAFETY: a status that is not null is ours to read and to release once.
        let message = unsafe {
            let text = CStr::from_ptr((self.api.GetErrorMessage)(status.0));
            let message = text.to_string_lossy().into_owned();
            (self.api.ReleaseStatus)(status.0);
            message
        };
        Err(message)
    }

    /// The status of `work`. A panic becomes an error, too. `subject` begins the message.
    pub(super) fn guard(
        self,
        subject: fmt::Arguments<'_>,
        work: impl FnOnce() -> OrtResult<()>,
    ) -> OrtStatusPtr {
        match catch(subject, work) {
            Ok(()) => OrtStatusPtr::default(),
            Err(message) => self.error(&message),
        }
    }
}

/// The result of `work`. A panic becomes an error, too. `subject` begins the message.
fn catch(subject: fmt::Arguments<'_>, work: impl FnOnce() -> OrtResult<()>) -> OrtResult<()> {
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(format!("a defect in quantcal, please report it: {}", text.unwrap_or("panic")))
    });
    result.map_err(|message| format!("{subject}{message}"))
}

/// How many threads may share work, when each is to get `least` elements or more.
pub(super) fn shares(elements: usize, least: usize) -> usize {
    static THREADS: LazyLock<usize> =
        LazyLock::new(|| thread::available_parallelism().map_or(1, std::num::NonZero::get));
    (*THREADS).min(elements / least)
}

/// A node of a graph, while its operator is created.
pub(super) struct Node<'a> {
    runtime: Runtime,
    info: *const OrtKernelInfo,
    lasts: PhantomData<&'a ()>,
}

impl Node<'_> {
    /// The node with this information.
    ///
    /// # Safety
    /// `info` comes from the runtime for a creation that lasts as long as this value.
    pub(super) unsafe fn new(runtime: Runtime, info: *const OrtKernelInfo) -> Self {
        Self { runtime, info, lasts: PhantomData }
    }

    /// An integer attribute.
    pub(super) fn integer(&self, name: &CStr) -> OrtResult<i64> {
        let api = self.runtime.api;
        let mut value = 0;
        // SAFETY: the pointers are valid while an operator is created.
        let status =
            unsafe { (api.KernelInfoGetAttribute_int64)(self.info, name.as_ptr(), &raw mut value) };
        self.runtime.check(status)?;
        Ok(value)
    }

    /// The name of the first output.
    pub(super) fn output_name(&self) -> OrtResult<String> {
        let get = |place: *mut c_char, size: &mut usize| {
            // SAFETY: the place is null, which asks for the size, or has room for this size.
            let status =
                unsafe { (self.runtime.api.KernelInfo_GetOutputName)(self.info, 0, place, size) };
            self.runtime.check(status)
        };
        let mut size = 0;
        get(ptr::null_mut(), &mut size)?;
        let mut name = vec![0u8; size];
        get(name.as_mut_ptr().cast(), &mut size)?;
        let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
        Ok(name.to_string_lossy().into_owned())
    }
}

/// One call of an operator.
pub(super) struct Call<'a> {
    runtime: Runtime,
    context: *mut OrtKernelContext,
    lasts: PhantomData<&'a ()>,
}

impl<'a> Call<'a> {
    /// A call with this context.
    ///
    /// # Safety
    /// `context` comes from the runtime for a call that lasts as long as this value.
    pub(super) unsafe fn new(runtime: Runtime, context: *mut OrtKernelContext) -> Self {
        Self { runtime, context, lasts: PhantomData }
    }

    /// The input with this number.
    pub(super) fn input(&self, index: usize) -> OrtResult<Tensor<'_>> {
        let mut value: *const OrtValue = ptr::null();
        let api = self.runtime.api;
        // SAFETY: the context is valid while the call lasts.
        let status = unsafe { (api.KernelContext_GetInput)(self.context, index, &raw mut value) };
        self.runtime.check(status)?;
        self.tensor(value.cast_mut())
    }

    /// The memory of the first output, of the given sizes. It is that of the input if the runtime
    /// allows.
    pub(super) fn output(&self, sizes: &[i64]) -> OrtResult<*mut c_void> {
        let mut value: *mut OrtValue = ptr::null_mut();
        let api = self.runtime.api;
        // SAFETY: the context is valid while the call lasts; the sizes are copied.
        let status = unsafe {
            let (sizes, rank) = (sizes.as_ptr(), sizes.len());
            (api.KernelContext_GetOutput)(self.context, 0, sizes, rank, &raw mut value)
        };
        self.runtime.check(status)?;
        self.memory(value)
    }

    /// The elements of the first input, which are `f32`, and the place of the first output, which
    /// has the same sizes.
    pub(super) fn floats(&mut self) -> OrtResult<Floats<'_>> {
        let input = self.input(0)?;
        let from = input.f32s()?;
        let output: *mut f32 = self.output(input.sizes())?.cast();
        if input.count == 0 {
            return Ok(Floats::Same(&mut []));
        }
        if output.is_null() || !output.is_aligned() {
            return Err("its output does not begin at a whole element".into());
        }
        // SAFETY: the output has the sizes of the input, and this call alone writes to it. It is
        // the input, whose slice is not used any more then, or it does not overlap it.
        let to = unsafe { slice::from_raw_parts_mut(output, input.count) };
        if ptr::eq(output, input.memory.cast()) {
            return Ok(Floats::Same(to));
        }
        Ok(Floats::Apart { from, to })
    }

    fn memory(&self, value: *mut OrtValue) -> OrtResult<*mut c_void> {
        let mut memory = ptr::null_mut();
        // SAFETY: the value is a tensor of this call.
        let status = unsafe { (self.runtime.api.GetTensorMutableData)(value, &raw mut memory) };
        self.runtime.check(status)?;
        Ok(memory)
    }

    fn tensor(&self, value: *mut OrtValue) -> OrtResult<Tensor<'_>> {
        if value.is_null() {
            return Err("it has no value".into());
        }
        let api = self.runtime.api;
        let mut info = ptr::null_mut();
        // SAFETY: the value is a tensor, since the operator has no other inputs.
        let status = unsafe { (api.GetTensorTypeAndShape)(value, &raw mut info) };
        self.runtime.check(status)?;
        let (mut kind, mut rank, mut count) = (0i32, 0, 0);
        // SAFETY: `info` is ours until it is released. The kind is read as an integer, because a
        // newer runtime may have kinds that the enumeration does not have.
        let statuses = unsafe {
            [
                (api.GetTensorElementType)(info, (&raw mut kind).cast()),
                (api.GetDimensionsCount)(info, &raw mut rank),
                (api.GetTensorShapeElementCount)(info, &raw mut count),
            ]
        };
        let mut sizes = vec![0; rank];
        // SAFETY: there is room for `rank` sizes; `info` is released once, here.
        let last = unsafe {
            let status = (api.GetDimensions)(info, sizes.as_mut_ptr(), rank);
            (api.ReleaseTensorTypeAndShapeInfo)(info);
            status
        };
        for status in statuses.into_iter().chain([last]) {
            self.runtime.check(status)?;
        }
        let memory = self.memory(value)?;
        Ok(Tensor { kind, sizes, count, memory, call: PhantomData })
    }

    /// The threads of the runtime.
    pub(super) fn threads(&self) -> Threads<'a> {
        Threads { runtime: self.runtime, context: self.context, lasts: PhantomData }
    }
}

/// The threads of the runtime, while a call lasts.
#[derive(Clone, Copy)]
pub(super) struct Threads<'a> {
    runtime: Runtime,
    context: *mut OrtKernelContext,
    lasts: PhantomData<&'a ()>,
}

impl Threads<'_> {
    /// Calls `work` with each number below `shares`, on any of the threads.
    pub(super) fn share_out(self, shares: usize, work: &(dyn Fn(usize) + Sync)) -> OrtResult<()> {
        struct Job<'a> {
            work: &'a (dyn Fn(usize) + Sync),
            panicked: AtomicBool,
        }

        unsafe extern "system" fn one(job: *mut c_void, share: usize) {
            // SAFETY: it is the job below, which outlives the calls and is only shared.
            let job = unsafe { &*job.cast::<Job<'_>>() };
            if catch_unwind(AssertUnwindSafe(|| (job.work)(share))).is_err() {
                job.panicked.store(true, Ordering::Relaxed);
            }
        }

        let mut job = Job { work, panicked: AtomicBool::new(false) };
        let api = self.runtime.api;
        // SAFETY: the runtime returns when all shares are done. With zero batches it chooses their
        // number.
        let status = unsafe {
            let job = (&raw mut job).cast();
            (api.KernelContext_ParallelFor)(self.context, one, shares, 0, job)
        };
        self.runtime.check(status)?;
        if job.panicked.into_inner() {
            return Err("a defect in quantcal, please report it: a thread panicked".into());
        }
        Ok(())
    }
}

/// A tensor while a call lasts.
pub(super) struct Tensor<'a> {
    kind: i32,
    sizes: Vec<i64>,
    count: usize,
    memory: *mut c_void,
    call: PhantomData<&'a ()>,
}

/// The elements of an input and of the output of the same sizes.
pub(super) enum Floats<'a> {
    /// the output is the input
    Same(&'a mut [f32]),
    /// the output is elsewhere
    Apart { from: &'a [f32], to: &'a mut [f32] },
}

/// The elements of a tensor.
pub(super) enum Elements<'a> {
    F16(&'a [f16]),
    BF16(&'a [bf16]),
    F32(&'a [f32]),
    F64(&'a [f64]),
}

impl<'a> Tensor<'a> {
    pub(super) fn sizes(&self) -> &[i64] {
        &self.sizes
    }

    pub(super) fn elements(&self) -> OrtResult<Elements<'a>> {
        Ok(match self.kind {
            1 => Elements::F32(self.slice()?),
            10 => Elements::F16(self.slice()?),
            11 => Elements::F64(self.slice()?),
            16 => Elements::BF16(self.slice()?),
            kind => {
                return Err(format!(
                    "its elements are of kind {kind}; float16, bfloat16, float and double are recorded"
                ));
            }
        })
    }

    /// The elements, which must be `f32`.
    pub(super) fn f32s(&self) -> OrtResult<&'a [f32]> {
        match self.kind {
            1 => self.slice(),
            kind => Err(format!("elements are of kind {kind}; only float is rounded")),
        }
    }

    /// The elements as `T`; the caller has checked that this is their type.
    fn slice<T: AnyBitPattern>(&self) -> OrtResult<&'a [T]> {
        let memory: *const T = self.memory.cast();
        if self.count == 0 {
            return Ok(&[]);
        }
        if memory.is_null() || !memory.is_aligned() {
            return Err("its memory does not begin at a whole element".into());
        }
        // SAFETY: the runtime keeps this many elements there until the call ends, and nobody writes
        // to an input during that time. Every bit pattern is a value of these types.
        Ok(unsafe { slice::from_raw_parts(memory, self.count) })
    }

    /// Copies the elements to an output, unless it is the input itself.
    pub(super) fn pass_on(&self, values: &Elements<'_>, output: *mut c_void) {
        let size = match values {
            Elements::F16(_) | Elements::BF16(_) => 2,
            Elements::F32(_) => 4,
            Elements::F64(_) => 8,
        };
        if ptr::eq(self.memory, output) || self.count == 0 {
            return;
        }
        // SAFETY: an output of the same sizes and kind that is not the input does not overlap it.
        unsafe {
            let bytes = self.count * size;
            ptr::copy_nonoverlapping(self.memory.cast::<u8>(), output.cast::<u8>(), bytes);
        }
    }
}

/// The types of [`Elements`]. Every bit pattern is a value of them.
trait AnyBitPattern {}
impl AnyBitPattern for f16 {}
impl AnyBitPattern for bf16 {}
impl AnyBitPattern for f32 {}
impl AnyBitPattern for f64 {}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    #[test]
    fn a_panic_is_an_error_that_names_the_tensor_and_says_what_happened() {
        let defect = "Tensor \"x\": a defect in quantcal, please report it: ";
        let panics: [(&dyn Fn() -> OrtResult<()>, &str); 3] = [
            (&|| panic!("plain words"), "plain words"),
            (&|| panic!("{} made of {}", "words", 2), "words made of 2"),
            (&|| panic_any(7), "panic"),
        ];
        for (work, text) in panics {
            assert_eq!(catch(format_args!("Tensor \"x\": "), work), Err(format!("{defect}{text}")));
        }
        let refused = || Err("it has no value".into());
        assert_eq!(
            catch(format_args!("Tensor \"x\": "), refused),
            Err("Tensor \"x\": it has no value".into())
        );
        assert_eq!(catch(format_args!("Tensor \"x\": "), || Ok(())), Ok(()));
    }
}
