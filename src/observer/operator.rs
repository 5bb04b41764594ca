//! `quantcal::Observe` for ONNX Runtime: a table of C functions, and its registration.
#![allow(unsafe_code)]

use std::{
    collections::HashMap,
    ffi::{CStr, c_char, c_int, c_void},
    ptr,
    sync::{Arc, LazyLock},
    thread,
};

use ort_sys::{
    ONNXTensorElementDataType, OrtApi, OrtApiBase, OrtCustomOp, OrtCustomOpDomain,
    OrtCustomOpInputOutputCharacteristic, OrtKernelContext, OrtKernelInfo, OrtMemType,
    OrtSessionOptions, OrtStatusPtr,
};

use super::{
    runtime::{Call, Elements, OrtResult, Runtime},
    tap::{Tap, Taps},
};
use crate::{float::Element, fork::Lock};

/// The version of the C interface that is used: the first with `GetAliasMap`, of early 2024.
const API: u32 = 18;
const DOMAIN: &CStr = c"quantcal";
const NAME: &CStr = c"Observe";

/// The attributes of a node: the number of [`Taps`], and the position among them.
const NUMBER: &CStr = c"taps";
const POSITION: &CStr = c"position";

/// Fewest elements for each thread. Below, another thread costs more than it gains. 2^13 and 2^14
/// are equally fast; 2^17 leaves most tensors of a text recognizer to one thread.
const SHARE: usize = 1 << 14;

/// An operator of an open session.
struct Kernel {
    runtime: Runtime,
    tap: Arc<Tap>,
}

impl Kernel {
    fn compute(&self, call: &Call<'_>) -> OrtResult<()> {
        let input = call.input()?;
        let elements = input.elements()?;
        match &elements {
            Elements::F16(values) => self.record(call, values),
            Elements::BF16(values) => self.record(call, values),
            Elements::F32(values) => self.record(call, values),
            Elements::F64(values) => self.record(call, values),
        }?;
        let output = call.output(input.sizes())?;
        input.pass_on(&elements, output);
        Ok(())
    }

    /// Counts on the threads of the runtime. They spin between operators, so the threads of our
    /// pool would wait for them.
    fn record<T: Element>(&self, call: &Call<'_>, values: &[T]) -> OrtResult<()> {
        let shares = threads().min(values.len() / SHARE);
        if shares < 2 {
            return self.tap.observe(values).map_err(|error| error.to_string());
        }
        self.tap.observe_shared(values, shares, |shares, work| call.share_out(shares, work))
    }
}

fn threads() -> usize {
    static THREADS: LazyLock<usize> =
        LazyLock::new(|| thread::available_parallelism().map_or(1, std::num::NonZero::get));
    *THREADS
}

unsafe extern "system" fn create(
    _: *const OrtCustomOp,
    api: *const OrtApi,
    info: *const OrtKernelInfo,
    kernel: *mut *mut c_void,
) -> OrtStatusPtr {
    // SAFETY: the runtime passes its own table.
    let Some(runtime) = (unsafe { Runtime::of(api) }) else { return OrtStatusPtr::default() };
    runtime.guard("quantcal::Observe: ", || {
        // SAFETY: the runtime passes `info` for this creation.
        let attribute = |name| unsafe { runtime.attribute(info, name) };
        let tap = Taps::find(attribute(NUMBER)?, attribute(POSITION)?);
        let tap = tap.map_err(|error| error.to_string())?;
        let made = Box::new(Kernel { runtime, tap });
        // SAFETY: the runtime passes the place for the kernel.
        unsafe { *kernel = Box::into_raw(made).cast() };
        Ok(())
    })
}

unsafe extern "system" fn compute(
    kernel: *mut c_void,
    context: *mut OrtKernelContext,
) -> OrtStatusPtr {
    // SAFETY: it is a kernel of `create`, alive until `destroy`. Several threads may call at once;
    // they only share it.
    let kernel = unsafe { &*kernel.cast::<Kernel>() };
    kernel.runtime.guard(&format!("Tensor \"{}\": ", kernel.tap.name()), || {
        // SAFETY: the runtime passes the context for this call.
        kernel.compute(&unsafe { Call::new(kernel.runtime, context) })
    })
}

unsafe extern "system" fn destroy(kernel: *mut c_void) {
    if !kernel.is_null() {
        // SAFETY: it is a kernel of `create`, which the runtime returns once.
        drop(unsafe { Box::from_raw(kernel.cast::<Kernel>()) });
    }
}

extern "system" fn name(_: *const OrtCustomOp) -> *const c_char {
    NAME.as_ptr()
}

extern "system" fn provider(_: *const OrtCustomOp) -> *const c_char {
    ptr::null() // the CPU
}

extern "system" fn one(_: *const OrtCustomOp) -> usize {
    1
}

extern "system" fn any_type(_: *const OrtCustomOp, _: usize) -> ONNXTensorElementDataType {
    ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED
}

extern "system" fn required(
    _: *const OrtCustomOp,
    _: usize,
) -> OrtCustomOpInputOutputCharacteristic {
    OrtCustomOpInputOutputCharacteristic::INPUT_OUTPUT_REQUIRED
}

extern "system" fn memory(_: *const OrtCustomOp, _: usize) -> OrtMemType {
    OrtMemType::OrtMemTypeDefault
}

extern "system" fn zero(_: *const OrtCustomOp) -> c_int {
    0
}

extern "system" fn first_version(_: *const OrtCustomOp) -> c_int {
    1
}

extern "system" fn last_version(_: *const OrtCustomOp) -> c_int {
    c_int::MAX
}

static FIRST: c_int = 0;

/// Output 0 is an alias of input 0, so nothing is copied. Working in place would need shapes that
/// are known beforehand.
unsafe extern "system" fn alias(inputs: *mut *mut c_int, outputs: *mut *mut c_int) -> usize {
    let first = (&raw const FIRST).cast_mut(); // the runtime only reads it
    // SAFETY: the runtime passes the places for the two lists.
    unsafe {
        *inputs = first;
        *outputs = first;
    }
    1
}

unsafe extern "system" fn no_places(inputs: *mut *mut c_int, outputs: *mut *mut c_int) -> usize {
    // SAFETY: the runtime passes the places for the two lists.
    unsafe {
        *inputs = ptr::null_mut();
        *outputs = ptr::null_mut();
    }
    0
}

extern "system" fn keep(_: *mut c_int, _: *mut c_int) {}

static OPERATOR: OrtCustomOp = OrtCustomOp {
    version: API,
    CreateKernel: None,
    GetName: Some(name),
    GetExecutionProviderType: Some(provider),
    GetInputType: Some(any_type),
    GetInputTypeCount: Some(one),
    GetOutputType: Some(any_type),
    GetOutputTypeCount: Some(one),
    KernelCompute: None,
    KernelDestroy: Some(destroy),
    GetInputCharacteristic: Some(required),
    GetOutputCharacteristic: Some(required),
    GetInputMemoryType: Some(memory),
    GetVariadicInputMinArity: Some(zero),
    GetVariadicInputHomogeneity: Some(zero),
    GetVariadicOutputMinArity: Some(zero),
    GetVariadicOutputHomogeneity: Some(zero),
    CreateKernelV2: Some(create),
    KernelComputeV2: Some(compute),
    InferOutputShapeFn: None,
    GetStartVersion: Some(first_version),
    GetEndVersion: Some(last_version),
    GetMayInplace: Some(no_places),
    ReleaseMayInplace: Some(keep),
    GetAliasMap: Some(alias),
    ReleaseAliasMap: Some(keep),
};

/// The domain of a runtime. There is one for each runtime in this process, and it is never freed,
/// since sessions refer to it.
struct Domain(*mut OrtCustomOpDomain);

// SAFETY: a complete domain is only read.
unsafe impl Send for Domain {}

static DOMAINS: LazyLock<Lock<HashMap<usize, Domain>>> = LazyLock::new(Lock::default);

fn register(runtime: Runtime, options: *mut OrtSessionOptions) -> OrtResult<()> {
    let mut domains = DOMAINS.lock();
    let api = runtime.api();
    let known = domains.get(&runtime.address()).map(|domain| domain.0);
    let domain = if let Some(domain) = known {
        domain
    } else {
        let mut domain = ptr::null_mut();
        // SAFETY: the name is copied; the operator is static.
        unsafe {
            runtime.check((api.CreateCustomOpDomain)(DOMAIN.as_ptr(), &raw mut domain))?;
            runtime.check((api.CustomOpDomain_Add)(domain, &raw const OPERATOR))?;
        }
        domains.insert(runtime.address(), Domain(domain));
        domain
    };
    // SAFETY: the options are those that the runtime passed for registration.
    runtime.check(unsafe { (api.AddCustomOpDomain)(options, domain) })
}

/// Called by ONNX Runtime when the library is passed to `register_custom_ops_library`.
///
/// # Safety
/// Both pointers come from the runtime.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub(super) unsafe extern "system" fn RegisterCustomOps(
    options: *mut OrtSessionOptions,
    base: *const OrtApiBase,
) -> OrtStatusPtr {
    // SAFETY: the runtime passes its own base, which returns the table of a version or null.
    let table_of = |version| unsafe { Runtime::of(((*base).GetApi)(version)) };
    match table_of(API) {
        Some(runtime) => runtime.guard("quantcal: ", || register(runtime, options)),
        // The first functions of the table are the same in every version.
        None => table_of(1).map_or_else(OrtStatusPtr::default, |old| {
            old.error("quantcal::Observe needs onnxruntime 1.18 or later")
        }),
    }
}
