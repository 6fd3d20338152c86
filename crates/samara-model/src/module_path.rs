//! Where a walk through the modules of a model is.

/// The names of the modules from the model down to the one that is visited. The variant of an enum (which
/// kind of a block it is) does not belong to the name.
#[derive(Debug, Default)]
pub struct ModulePath(Vec<String>);

impl ModulePath {
    /// For [`ModuleVisitor::enter_module`](burn::module::ModuleVisitor::enter_module).
    pub fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.push(name.to_owned());
        }
    }

    /// For [`ModuleVisitor::exit_module`](burn::module::ModuleVisitor::exit_module).
    pub fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.pop();
        }
    }

    /// The names joined by dots, such as `image_encoder.blocks.0.attn.qkv.weight`.
    pub fn name(&self) -> String {
        self.0.join(".")
    }
}
