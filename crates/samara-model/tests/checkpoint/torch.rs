//! What `torch.save` writes, byte by byte, so that a test can also write what it never would.

use safetensors::Dtype;

use crate::files::{Stored, Tensors};

/// A pickle of protocol 2 under construction.
#[derive(Clone)]
pub(crate) struct Pickle(pub(crate) Vec<u8>);

impl Pickle {
    pub(crate) fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub(crate) fn raw(mut self, opcodes: &[u8]) -> Self {
        self.0.extend(opcodes);
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        let length = u32::try_from(text.len()).unwrap();
        self.raw(b"X")
            .raw(&length.to_le_bytes())
            .raw(text.as_bytes())
    }

    pub(crate) fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub(crate) fn int(self, value: i64) -> Self {
        self.raw(&[0x8a, 8]).raw(&value.to_le_bytes())
    }

    pub(crate) fn ints(self, values: &[i64]) -> Self {
        let open = self.raw(b"(");
        values
            .iter()
            .fold(open, |pickle, &value| pickle.int(value))
            .raw(b"t")
    }

    /// A storage of `count` values.
    fn storage(self, class: &str, key: &str, count: i64) -> Self {
        let id = self.raw(b"(").text("storage").global("torch", class);
        id.text(key).text("cpu").int(count).raw(b"tQ")
    }

    /// A tensor on a storage of its own.
    pub(crate) fn tensor(
        self,
        (class, key, count): (&str, &str, i64),
        shape: &[i64],
        strides: &[i64],
    ) -> Self {
        let rebuild = self.global("torch._utils", "_rebuild_tensor_v2").raw(b"(");
        let rebuild = rebuild
            .storage(class, key, count)
            .int(0)
            .ints(shape)
            .ints(strides);
        rebuild
            .raw(&[0x89])
            .global("collections", "OrderedDict")
            .raw(b")RtR")
    }

    pub(crate) fn stop(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

/// A dictionary of tensors, and the storages that they need.
pub(crate) fn state_dict(pickle: Pickle, tensors: &Tensors) -> (Pickle, Vec<Vec<u8>>) {
    let mut pickle = pickle.raw(b"}(");
    for (index, (key, tensor)) in tensors.iter().enumerate() {
        let size = |size: &usize| i64::try_from(*size).unwrap();
        let shape: Vec<i64> = tensor.shape.iter().map(size).collect();
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        let storage = (class(tensor), &*index.to_string(), shape.iter().product());
        pickle = pickle.text(key).tensor(storage, &shape, &strides);
    }
    let storages = tensors.values().map(|tensor| tensor.data.clone());
    (pickle.raw(b"u"), storages.collect())
}

fn class(tensor: &Stored) -> &'static str {
    match tensor.dtype {
        Dtype::F32 => "FloatStorage",
        Dtype::F16 => "HalfStorage",
        Dtype::BF16 => "BFloat16Storage",
        Dtype::I64 => "LongStorage",
        other => panic!("no storage class for {other:?}"),
    }
}

/// A `.pth` of a plain dictionary.
pub(crate) fn pth(tensors: &Tensors) -> Vec<u8> {
    let (pickle, storages) = state_dict(Pickle::new(), tensors);
    archive(pickle.stop(), storages)
}

/// The archive around a pickle and its storages.
pub(crate) fn archive(pickle: Vec<u8>, storages: Vec<Vec<u8>>) -> Vec<u8> {
    let names = (0..).map(|index| format!("made/data/{index}"));
    let mut entries = vec![Entry::stored("made/data.pkl", pickle)];
    entries.extend(
        names
            .zip(storages)
            .map(|(name, data)| Entry::stored(&name, data)),
    );
    zip(&entries)
}

/// An entry of a zip archive.
pub(crate) struct Entry {
    pub(crate) name: String,
    /// 0 is stored, 8 deflated.
    pub(crate) method: u16,
    /// Length that the entry claims to have when unpacked.
    pub(crate) size: u32,
    pub(crate) data: Vec<u8>,
}

impl Entry {
    pub(crate) fn stored(name: &str, data: Vec<u8>) -> Self {
        let size = u32::try_from(data.len()).unwrap();
        Self {
            name: name.to_owned(),
            method: 0,
            size,
            data,
        }
    }
}

/// A zip archive without checksums, which a checksum of 0 tells.
pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let offset = u32::try_from(file.len()).unwrap();
        let packed = u32::try_from(entry.data.len()).unwrap();
        let name = u16::try_from(entry.name.len()).unwrap();
        let mut header = vec![20, 0, 0, 0];
        header.extend(entry.method.to_le_bytes());
        header.extend([0; 8]);
        header.extend(packed.to_le_bytes());
        header.extend(entry.size.to_le_bytes());
        header.extend(name.to_le_bytes());
        header.extend([0, 0]);

        file.extend(b"PK\x03\x04");
        file.extend(&header);
        file.extend(entry.name.as_bytes());
        file.extend(&entry.data);

        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&header);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(entry.name.as_bytes());
    }
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    let size = u32::try_from(directory.len()).unwrap();
    let start = u32::try_from(file.len()).unwrap();
    file.extend(&directory);
    file.extend(b"PK\x05\x06\x00\x00\x00\x00");
    file.extend(count);
    file.extend(count);
    file.extend(size.to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}
