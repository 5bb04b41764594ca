//! Registration of the operators with ONNX Runtime: the entry `RegisterCustomOps`.
#![allow(unsafe_code)]

use std::{collections::HashMap, ffi::CStr, ptr, sync::LazyLock};

use ort_sys::{OrtApiBase, OrtCustomOp, OrtCustomOpDomain, OrtSessionOptions, OrtStatusPtr};

use super::{
    observe::Observe,
    round::Round,
    runtime::{OrtResult, Runtime},
    table::{API, table},
};
use crate::fork::Lock;

const DOMAIN: &CStr = c"quantcal";

static OPERATORS: [OrtCustomOp; 3] =
    [table::<Observe>(), table::<Round<false>>(), table::<Round<true>>()];

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
        // SAFETY: the name is copied.
        runtime.check(unsafe { (api.CreateCustomOpDomain)(DOMAIN.as_ptr(), &raw mut domain) })?;
        for operator in &OPERATORS {
            // SAFETY: the domain was made above; the operator is static.
            runtime.check(unsafe { (api.CustomOpDomain_Add)(domain, operator) })?;
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
        Some(runtime) => runtime.guard(format_args!("quantcal: "), || register(runtime, options)),
        // The first functions of the table are the same in every version.
        None => table_of(1).map_or_else(OrtStatusPtr::default, |old| {
            old.error("quantcal's operators need onnxruntime 1.18 or later")
        }),
    }
}
