//! The numbers that a model multiplies.

use std::fmt;
use std::str::FromStr;

use samara_kernels::isa::Isa;

use crate::error::ParseError;
use crate::{DeviceKind, Error, Result};

/// The numbers that a model multiplies on the processor. What it adds up, and what lies between layers, is
/// `f32` whatever they are; on a GPU all is `f32`.
///
/// Only [`Fp32`](Self::Fp32) gives the same answers on every processor, and those of the official code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
#[non_exhaustive]
pub enum Precision {
    /// What the processor has fast instructions for: [`Int8`](Self::Int8) for an [`Int8Model`](crate::Int8Model),
    /// or else [`Bf16`](Self::Bf16), or else [`Fp32`](Self::Fp32).
    Auto,
    /// 32-bit floating point.
    #[default]
    Fp32,
    /// bf16: `f32` with 8 bits of precision. Half the memory of weights.
    Bf16,
    /// 8-bit integers with scales in the image encoder, and bf16 in its first layer, its attention and the
    /// decoder's. A quarter of the memory of weights.
    Int8,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Fp32, Self::Bf16, Self::Int8];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// What it is on this processor, or on a GPU, for an [`Int8Model`](crate::Int8Model) or another one: anything but
    /// [`Auto`](Self::Auto).
    pub(crate) fn resolved(self, device: DeviceKind, is_int8: bool) -> Self {
        match self {
            _ if device != DeviceKind::Cpu => Self::Fp32,
            Self::Auto if is_int8 && Isa::best().multiplies_int8() => Self::Int8,
            Self::Auto if Isa::best().multiplies_bf16() => Self::Bf16,
            Self::Auto => Self::Fp32,
            _ => self,
        }
    }

    /// As the model has it, once it is [resolved](Self::resolved).
    pub(crate) fn of_model(self) -> samara_model::Precision {
        match self {
            Self::Auto | Self::Fp32 => samara_model::Precision::Fp32,
            Self::Bf16 => samara_model::Precision::Bf16,
            Self::Int8 => samara_model::Precision::Int8,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(ParseError::named(
            "precision",
            name,
            &Self::ALL,
            Self::name,
        )?)
    }
}
