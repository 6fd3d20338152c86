//! Where a model runs.

use std::fmt;
use std::str::FromStr;

use samara_model::burn::tensor::Device;

use crate::error::{DeviceError, ParseError};
use crate::{Error, Result};

/// A kind of device. Which of them work depends on the cargo features of the build; `cpu` needs
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
#[non_exhaustive]
pub enum DeviceKind {
    /// The processor, in pure Rust.
    #[default]
    Cpu,
    /// Any GPU, through WebGPU.
    Wgpu,
    /// A GPU, through Vulkan.
    Vulkan,
    /// A GPU of Apple.
    Metal,
    /// A GPU of NVIDIA.
    Cuda,
    /// A GPU of AMD.
    Rocm,
}

impl DeviceKind {
    /// All kinds, whether built in or not.
    pub const ALL: [Self; 6] = [
        Self::Cpu,
        Self::Wgpu,
        Self::Vulkan,
        Self::Metal,
        Self::Cuda,
        Self::Rocm,
    ];

    /// The name, which is also that of the cargo feature (`cpu` is `flex` there).
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
        }
    }

    /// The device.
    pub(crate) fn open(self) -> Result<Device> {
        match self {
            #[cfg(feature = "flex")]
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Ok(Device::wgpu(Default::default())),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Ok(Device::vulkan(Default::default())),
            #[cfg(feature = "metal")]
            Self::Metal => Ok(Device::metal(Default::default())),
            #[cfg(feature = "cuda")]
            Self::Cuda => Ok(Device::cuda(0)),
            #[cfg(feature = "rocm")]
            Self::Rocm => Ok(Device::rocm(0)),
            #[allow(unreachable_patterns, reason = "reachable when a feature is off")]
            absent => {
                let feature = if absent == Self::Cpu {
                    "flex"
                } else {
                    absent.name()
                };
                let device = absent.name();
                Err(DeviceError::Absent { device, feature }.into())
            }
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DeviceKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(ParseError::named("device", name, &Self::ALL, Self::name)?)
    }
}
