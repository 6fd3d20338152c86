//! Weights that matmuls on the CPU read: packed once, and not kept beside what they were packed from.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
    Param,
};
use burn::tensor::{Device, Tensor, TensorData};
use samara_kernels::gemm::{Matrix, Packed};

use super::precision::{Precision, Rounding};
use super::values::Values;

/// The weight of a linear layer, `[in, out]`, or of a convolution, `[out, in, kernel, kernel]`.
///
/// It is a parameter until the first matmul of inference on the CPU, which packs it; the packed values
/// take the parameter's place, and whoever asks for the plain ones gets them unpacked. On another
/// device, and while gradients are recorded, it stays a parameter.
///
/// Clones share the weight and so its packing. What changes weights ([`Module::map`]: an optimizer, a
/// checkpoint) makes a new one, which is not packed yet.
#[derive(Clone)]
pub struct Weight<const D: usize> {
    state: Arc<RwLock<State<D>>>,
    rounding: Rounding,
}

#[derive(Clone)]
enum State<const D: usize> {
    Plain(Param<Tensor<D>>),
    Packed(PackedParam<D>),
}

/// A parameter whose values are packed.
#[derive(Clone)]
struct PackedParam<const D: usize> {
    /// Who it is and whether it learns: the parameter with an empty tensor.
    param: Param<Tensor<D>>,
    shape: [usize; D],
    values: Arc<Packed>,
}

impl<const D: usize> Weight<D> {
    fn plain(param: Param<Tensor<D>>, rounding: Rounding) -> Self {
        Self {
            state: Arc::new(RwLock::new(State::Plain(param))),
            rounding,
        }
    }

    /// The same, multiplied in these numbers.
    pub fn with_precision(self, precision: Precision) -> Self {
        let rounding = Rounding::default();
        rounding.set(precision);
        Self::plain(self.into_param(), rounding)
    }

    /// The numbers in which it is multiplied.
    pub fn precision(&self) -> Precision {
        self.rounding.precision()
    }

    fn state(&self) -> State<D> {
        let state = self.state.read();
        state.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The values in panels, as the right side `[in, out]` or `[kernel · kernel · in, out]` of a matmul.
    /// `None` where the kernels do not work: on another device, and while gradients are recorded.
    pub(super) fn packed(&self) -> Option<Arc<Packed>> {
        let packed = match self.state() {
            State::Packed(packed) => return Some(packed.values),
            // Without the lock: a thread that waits for others may come here again.
            State::Plain(param) => PackedParam::of(&param, self.precision())?,
        };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have packed it meanwhile.
        if let State::Packed(first) = &*state {
            return Some(Arc::clone(&first.values));
        }
        let values = Arc::clone(&packed.values);
        *state = State::Packed(packed);
        Some(values)
    }

    /// The values in the parameter's shape. A copy where they are packed.
    pub fn val(&self) -> Tensor<D> {
        match self.state() {
            State::Plain(param) => param.val(),
            State::Packed(packed) => packed.unpacked(),
        }
    }

    /// The shape.
    pub fn dims(&self) -> [usize; D] {
        match self.state() {
            State::Plain(param) => param.dims(),
            State::Packed(packed) => packed.shape,
        }
    }

    /// The device.
    pub fn device(&self) -> Device {
        match self.state() {
            State::Plain(param) | State::Packed(PackedParam { param, .. }) => param.lazy_device(),
        }
    }

    fn into_param(self) -> Param<Tensor<D>> {
        // A parameter that nobody else has can be changed in place.
        let state = match Arc::try_unwrap(self.state) {
            Ok(state) => state.into_inner().unwrap_or_else(PoisonError::into_inner),
            Err(shared) => {
                let state = shared.read();
                state.unwrap_or_else(PoisonError::into_inner).clone()
            }
        };
        match state {
            State::Plain(param) => param,
            State::Packed(packed) => {
                let values = packed.unpacked();
                packed.param.map(|_| values)
            }
        }
    }
}

impl<const D: usize> PackedParam<D> {
    fn of(param: &Param<Tensor<D>>, precision: Precision) -> Option<Self> {
        let (shape, device) = (param.dims(), param.device());
        Some(Self {
            values: Arc::new(pack(param.val(), precision)?),
            param: param.clone().map(|_| Tensor::empty([0; D], &device)),
            shape,
        })
    }

    fn unpacked(&self) -> Tensor<D> {
        unpack(&self.values, self.shape, &self.param.device())
    }

    /// The parameter again, for those who look at it: its values are unpacked when they are read.
    fn lazy(&self) -> Param<Tensor<D>> {
        let (values, shape) = (Arc::clone(&self.values), self.shape);
        Param::uninitialized(
            self.param.id,
            move |device, _| unpack(&values, shape, device),
            self.param.device(),
            false,
            shape.into(),
        )
    }
}

/// Packs `[in, out]`, or `[out, in, kernel, kernel]` as the matrix `[kernel · kernel · in, out]`: the channels
/// of a tap lie side by side in the image.
fn pack<const D: usize>(weight: Tensor<D>, precision: Precision) -> Option<Packed> {
    let shape = weight.dims();
    let by_output = D == 4;
    let values = if by_output {
        let axes = std::array::from_fn::<isize, D, _>(|axis| [0, 2, 3, 1][axis]);
        Values::of(weight.permute(axes))?
    } else {
        Values::of(weight)?
    };
    let values = values.as_slice();
    let matrix = Matrix::new(values, shape[0], values.len() / shape[0].max(1));
    let matrix = if by_output {
        matrix.transposed()
    } else {
        matrix
    };
    Some(Packed::with_precision(precision, matrix))
}

/// The tensor of this shape that was packed.
fn unpack<const D: usize>(values: &Packed, shape: [usize; D], device: &Device) -> Tensor<D> {
    let values = values.unpacked();
    if D == 4 {
        let [outputs, inputs, height, width] = std::array::from_fn(|axis| shape[axis]);
        let matrix = TensorData::new(values, [height, width, inputs, outputs]);
        let back = std::array::from_fn::<isize, D, _>(|axis| [3, 2, 0, 1][axis]);
        return Tensor::from_data(matrix, device).permute(back);
    }
    Tensor::from_data(TensorData::new(values, shape), device)
}

impl<const D: usize> From<Param<Tensor<D>>> for Weight<D> {
    fn from(param: Param<Tensor<D>>) -> Self {
        Self::plain(param, Rounding::default())
    }
}

impl<const D: usize> Module for Weight<D> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        match self.state() {
            State::Plain(param) | State::Packed(PackedParam { param, .. }) => {
                param.collect_devices(devices)
            }
        }
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        let param = match self.state() {
            State::Plain(param) => param,
            State::Packed(packed) => packed.lazy(),
        };
        let is_depthwise = D == 4 && self.dims()[1] == 1;
        if !is_depthwise {
            self.rounding.met(param.id);
        }
        param.visit(visitor);
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let rounding = self.rounding.clone();
        Self::plain(Module::map(self.into_param(), mapper), rounding)
    }

    fn to_device(self, device: &Device) -> Self {
        let rounding = self.rounding.clone();
        Self::plain(self.into_param().to_device(device), rounding)
    }

    fn fork(self, device: &Device) -> Self {
        let rounding = self.rounding.clone();
        Self::plain(self.into_param().fork(device), rounding)
    }

    fn valid(&self) -> Self {
        match self.state() {
            State::Plain(param) => Self::plain(param.valid(), self.rounding.clone()),
            // Without gradients it is already.
            State::Packed(_) => self.clone(),
        }
    }

    fn train(self) -> Self {
        let rounding = self.rounding.clone();
        Self::plain(self.into_param().train(), rounding)
    }

    fn materialize(self) -> Self {
        let rounding = self.rounding.clone();
        Self::plain(self.into_param().materialize(), rounding)
    }
}

impl<const D: usize> ModuleDisplayDefault for Weight<D> {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(self).optional()
    }
}

impl<const D: usize> ModuleDisplay for Weight<D> {}

impl<const D: usize> fmt::Display for Weight<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state() {
            State::Plain(param) => write!(f, "Weight({:?})", param.lazy_shape()),
            State::Packed(packed) => write!(f, "Weight({:?}, packed)", packed.shape),
        }
    }
}

impl<const D: usize> fmt::Debug for Weight<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::module::ParamId;
    use burn::tensor::Distribution;

    use super::*;

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
    }

    fn weight<const D: usize>(values: &Tensor<D>) -> Weight<D> {
        Param::initialized(ParamId::new(), values.clone()).into()
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_into_vec().unwrap()
    }

    /// Adds one to all values, as an optimizer might.
    struct AddOne;

    impl ModuleMapper for AddOne {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|values| values + 1.0)
        }
    }

    #[derive(Default)]
    struct Seen(Vec<f32>);

    impl ModuleVisitor for Seen {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 = values(param.val());
        }
    }

    fn seen<const D: usize>(weight: &Weight<D>) -> Vec<f32> {
        let mut seen = Seen::default();
        weight.visit(&mut seen);
        seen.0
    }

    #[test]
    fn it_is_packed_once_for_all_clones_and_threads() {
        let weight = weight(&random([300, 70]));
        let clone = weight.clone();
        let packed = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| clone.packed())).collect();
            let packed = threads.into_iter().map(|thread| thread.join().unwrap());
            packed.map(Option::unwrap).collect::<Vec<_>>()
        });
        let kept = weight.packed().unwrap();
        assert!(packed.iter().all(|packed| Arc::ptr_eq(packed, &kept)));
    }

    #[test]
    fn plain_values_are_not_kept_beside_the_packed_ones() {
        let plain = random([40, 33]);
        let weight = weight(&plain);
        let unique = |tensor: Tensor<2>| tensor.try_into_primitive::<Flex>().unwrap().is_unique();
        weight.packed().unwrap();
        assert!(unique(plain), "somebody has the plain values");
    }

    #[test]
    fn packed_values_are_those_of_the_parameter() {
        fn check<const D: usize>(shape: [usize; D]) {
            let plain = random(shape);
            let weight = weight(&plain);
            weight.packed().unwrap();
            let plain = values(plain);
            assert_eq!(weight.dims(), shape);
            assert_eq!(values(weight.val()), plain);
            assert_eq!(seen(&weight), plain);
            assert_eq!(Module::num_params(&weight), plain.len());
            assert_eq!(values(weight.into_param().val()), plain);
        }
        check([5, 70]);
        check([64, 32]);
        check([37, 6, 3, 3]);
        check([64, 20, 1, 1]);
    }

    #[test]
    fn changed_weights_are_packed_anew() {
        let plain = random([20, 40]);
        let old = weight(&plain);
        let packed = old.packed().unwrap();
        let new = Module::map(old.clone(), &mut AddOne);
        let expected = values(plain.clone() + 1.0);
        assert_eq!(new.packed().unwrap().unpacked(), expected);
        assert_eq!(seen(&new), expected);
        assert!(Arc::ptr_eq(&packed, &old.packed().unwrap()));
        assert_eq!(values(old.val()), values(plain));
    }

    #[cfg(feature = "training")]
    #[test]
    fn a_weight_that_learns_stays_a_parameter() {
        let plain = random([20, 40]);
        for learns in [true, false] {
            let param = Param::from_tensor(plain.clone()).set_require_grad(learns);
            let id = param.id;
            let weight = Weight::from(param);
            weight.packed().unwrap();
            let trained = weight.train();
            assert!(trained.packed().is_none());
            assert_eq!(trained.val().is_require_grad(), learns);
            let param = trained.valid().into_param();
            assert_eq!(param.id, id);
            assert_eq!(values(param.val()), values(plain.clone()));
        }
    }
}
