//! The table of C functions by which ONNX Runtime knows an operator, made from a Rust type.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr,
};

use ort_sys::{
    ONNXTensorElementDataType, OrtApi, OrtCustomOp, OrtCustomOpInputOutputCharacteristic,
    OrtKernelContext, OrtKernelInfo, OrtMemType, OrtStatusPtr,
};

use super::runtime::{Call, Node, OrtResult, Runtime};

/// The version of the C interface that is used: the first with `GetAliasMap`, of early 2024.
pub(super) const API: u32 = 18;

/// The element types that an input or output may have.
#[derive(Clone, Copy)]
pub(super) enum ElementType {
    /// any type; the operator refuses what it cannot read
    Any,
    /// float32; ONNX Runtime refuses others when it opens the session
    Float,
}

/// An operator of an open session; one for each of its nodes. All have one output.
pub(super) trait Operator: Sized {
    /// The name of the operator in its domain.
    const NAME: &'static CStr;
    /// The element type of each input.
    const INPUTS: &'static [ElementType];
    /// The element type of the output.
    const OUTPUT: ElementType;
    /// Whether the output is an alias of the first input, so that nothing is copied. ONNX Runtime
    /// then gives both the same memory, except where the output is one of its graph.
    const ALIAS: bool;

    /// The operator of a node. The error does not name the node.
    fn new(node: &Node<'_>) -> OrtResult<Self>;

    /// The tensor that error messages name.
    fn tensor(&self) -> &str;

    /// Runs the operator. Several threads may do so at once.
    fn compute(&self, call: &mut Call<'_>) -> OrtResult<()>;
}

/// The table of an operator, which must be kept in a static.
pub(super) const fn table<T: Operator>() -> OrtCustomOp {
    OrtCustomOp {
        version: API,
        CreateKernel: None,
        GetName: Some(name::<T>),
        GetExecutionProviderType: Some(provider),
        GetInputType: Some(input_type::<T>),
        GetInputTypeCount: Some(inputs::<T>),
        GetOutputType: Some(output_type::<T>),
        GetOutputTypeCount: Some(one),
        KernelCompute: None,
        KernelDestroy: Some(destroy::<T>),
        GetInputCharacteristic: Some(required),
        GetOutputCharacteristic: Some(required),
        GetInputMemoryType: Some(memory),
        GetVariadicInputMinArity: Some(zero),
        GetVariadicInputHomogeneity: Some(zero),
        GetVariadicOutputMinArity: Some(zero),
        GetVariadicOutputHomogeneity: Some(zero),
        CreateKernelV2: Some(create::<T>),
        KernelComputeV2: Some(compute::<T>),
        InferOutputShapeFn: None,
        GetStartVersion: Some(first_version),
        GetEndVersion: Some(last_version),
        GetMayInplace: Some(no_places),
        ReleaseMayInplace: Some(keep),
        GetAliasMap: Some(if T::ALIAS { first_places } else { no_places }),
        ReleaseAliasMap: Some(keep),
    }
}

/// An operator and the functions of its runtime.
struct Kernel<T> {
    runtime: Runtime,
    operator: T,
}

unsafe extern "system" fn create<T: Operator>(
    _: *const OrtCustomOp,
    api: *const OrtApi,
    info: *const OrtKernelInfo,
    kernel: *mut *mut c_void,
) -> OrtStatusPtr {
    // SAFETY: the runtime passes its own table.
    let Some(runtime) = (unsafe { Runtime::of(api) }) else { return OrtStatusPtr::default() };
    runtime.guard(format_args!("quantcal::{}: ", T::NAME.to_string_lossy()), || {
        // SAFETY: the runtime passes `info` for this creation.
        let operator = T::new(&unsafe { Node::new(runtime, info) })?;
        let made = Box::new(Kernel { runtime, operator });
        // SAFETY: the runtime passes the place for the kernel.
        unsafe { *kernel = Box::into_raw(made).cast() };
        Ok(())
    })
}

unsafe extern "system" fn compute<T: Operator>(
    kernel: *mut c_void,
    context: *mut OrtKernelContext,
) -> OrtStatusPtr {
    // SAFETY: it is a kernel of `create`, alive until `destroy`. Several threads may call at once;
    // they only share it.
    let Kernel { runtime, operator } = unsafe { &*kernel.cast::<Kernel<T>>() };
    runtime.guard(format_args!("Tensor \"{}\": ", operator.tensor()), || {
        // SAFETY: the runtime passes the context for this call.
        operator.compute(&mut unsafe { Call::new(*runtime, context) })
    })
}

unsafe extern "system" fn destroy<T: Operator>(kernel: *mut c_void) {
    if !kernel.is_null() {
        // SAFETY: it is a kernel of `create`, which the runtime returns once.
        drop(unsafe { Box::from_raw(kernel.cast::<Kernel<T>>()) });
    }
}

extern "system" fn name<T: Operator>(_: *const OrtCustomOp) -> *const c_char {
    T::NAME.as_ptr()
}

extern "system" fn provider(_: *const OrtCustomOp) -> *const c_char {
    ptr::null() // the CPU
}

extern "system" fn one(_: *const OrtCustomOp) -> usize {
    1
}

extern "system" fn inputs<T: Operator>(_: *const OrtCustomOp) -> usize {
    T::INPUTS.len()
}

extern "system" fn input_type<T: Operator>(
    _: *const OrtCustomOp,
    index: usize,
) -> ONNXTensorElementDataType {
    T::INPUTS.get(index).copied().unwrap_or(ElementType::Any).constant()
}

extern "system" fn output_type<T: Operator>(
    _: *const OrtCustomOp,
    _: usize,
) -> ONNXTensorElementDataType {
    T::OUTPUT.constant()
}

impl ElementType {
    fn constant(self) -> ONNXTensorElementDataType {
        match self {
            Self::Any => ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED,
            Self::Float => ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        }
    }
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

/// Output 0 belongs to input 0. As an alias this needs no shapes that are known beforehand, as
/// working in place would.
unsafe extern "system" fn first_places(inputs: *mut *mut c_int, outputs: *mut *mut c_int) -> usize {
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
