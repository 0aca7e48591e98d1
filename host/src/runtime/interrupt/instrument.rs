//! Giving a component points at which it can be interrupted.
//!
//! Every core module gets one more memory, which nothing but points names, and a point wherever time
//! may go by without end: at the head of each loop, at the beginning of each function that calls
//! others or is long, and before each operation whose time depends on its operands. Invariant: a
//! module means what it meant before; it can name none of what was added.

use wasm_encoder::reencode::{self, Reencode, ReencodeComponent, utils};
use wasm_encoder::{
    CodeSection, Component, Function, Instruction, MemArg, MemorySection, MemoryType, Module,
    ModuleSection, SectionId,
};
use wasmparser::{
    FunctionBody, MemorySectionReader, Operator, Parser, Payload, TypeRef, Validator,
};

/// The size that memories of points may have at most, in pages: what tells them from others. They
/// never have any.
const MARK: u64 = 48_271;

/// A function that calls none and has at most so many operators needs no point of its own.
const SHORT: usize = 200;

/// Why a component can't be given points.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// It names a memory that it does not have.
    #[error("it names memory {0} of {1}")]
    NoSuchMemory(u32, u32),
    /// It has a memory that would be taken for one of points.
    #[error("it has a memory of 0 to {MARK} pages, a size that the host keeps for itself")]
    Mark,
}

type Error = reencode::Error<Refusal>;
type Done = Result<(), Error>;

/// The component with points in it.
///
/// # Errors
/// Why it is not valid, or what it has that only points may have.
pub(in super::super) fn instrument(component: &[u8]) -> Result<Vec<u8>, String> {
    // What rewrites relies on it, and nothing is to become valid by what is added.
    Validator::new().validate_all(component).map_err(|e| e.to_string())?;
    let mut instrumented = Component::new();
    let rewritten = Outer.parse_component(&mut instrumented, Parser::new(0), component);
    match rewritten {
        Ok(()) => Ok(instrumented.finish()),
        Err(Error::UserError(refusal)) => Err(refusal.to_string()),
        Err(e) => Err(format!("it can't be given points at which it is interrupted: {e}")),
    }
}

/// Whether a memory is one of points.
pub(super) fn is_of_points(ty: &wasmtime::MemoryType) -> bool {
    ty.minimum() == 0 && ty.maximum() == Some(MARK)
}

/// Rewrites a component: its core modules get points, all else stays.
struct Outer;

impl Reencode for Outer {
    type Error = Refusal;
}

impl ReencodeComponent for Outer {
    fn parse_component_submodule(
        &mut self,
        component: &mut Component,
        _: Parser,
        data: &[u8],
    ) -> Done {
        let mut module = Module::new();
        Inner::of(data)?.parse_core_module(&mut module, Parser::new(0), data)?;
        component.section(&ModuleSection(&module));
        Ok(())
    }
}

/// Rewrites a core module.
struct Inner {
    /// How many memories it has: the index of the one that is added.
    memories: u32,
    /// Whether it has code, and so needs one.
    code: bool,
    /// Whether the memory was added.
    added: bool,
}

impl Inner {
    fn of(module: &[u8]) -> Result<Self, Error> {
        let mut found = Self { memories: 0, code: false, added: false };
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        if let TypeRef::Memory(ty) = import?.ty {
                            found.count(ty)?;
                        }
                    }
                }
                Payload::MemorySection(memories) => {
                    for ty in memories {
                        found.count(ty?)?;
                    }
                }
                Payload::FunctionSection(functions) => found.code = functions.count() > 0,
                _ => {}
            }
        }
        Ok(found)
    }

    fn count(&mut self, ty: wasmparser::MemoryType) -> Done {
        if ty.initial == 0 && ty.maximum == Some(MARK) {
            return Err(Error::UserError(Refusal::Mark));
        }
        self.memories += 1;
        Ok(())
    }

    fn add_memory(&mut self, memories: &mut MemorySection) {
        self.added = true;
        memories.memory(MemoryType {
            minimum: 0,
            maximum: Some(MARK),
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
    }

    /// A store, because Cranelift never leaves one out: of loads it keeps what it needs.
    fn point(&self, function: &mut Function) {
        let at = MemArg { offset: 0, align: 0, memory_index: self.memories };
        function.instruction(&Instruction::I32Const(0));
        function.instruction(&Instruction::I32Const(0));
        function.instruction(&Instruction::I32Store8(at));
    }
}

/// Whether an operation may take long by itself.
fn is_bulk(operator: &Operator<'_>) -> bool {
    use Operator as O;
    matches!(
        operator,
        O::MemoryCopy { .. }
            | O::MemoryFill { .. }
            | O::MemoryInit { .. }
            | O::MemoryGrow { .. }
            | O::TableCopy { .. }
            | O::TableFill { .. }
            | O::TableInit { .. }
            | O::TableGrow { .. }
            | O::ArrayNew { .. }
            | O::ArrayNewDefault { .. }
            | O::ArrayNewData { .. }
            | O::ArrayNewElem { .. }
            | O::ArrayFill { .. }
            | O::ArrayCopy { .. }
            | O::ArrayInitData { .. }
            | O::ArrayInitElem { .. }
    )
}

/// Whether an operation calls a function.
fn is_call(operator: &Operator<'_>) -> bool {
    use Operator as O;
    matches!(
        operator,
        O::Call { .. }
            | O::CallIndirect { .. }
            | O::CallRef { .. }
            | O::ReturnCall { .. }
            | O::ReturnCallIndirect { .. }
            | O::ReturnCallRef { .. }
    )
}

impl Reencode for Inner {
    type Error = Refusal;

    /// The only way by which anything of the module names a memory.
    fn memory_index(&mut self, memory: u32) -> Result<u32, Error> {
        if memory < self.memories {
            return Ok(memory);
        }
        Err(Error::UserError(Refusal::NoSuchMemory(memory, self.memories)))
    }

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: MemorySectionReader<'_>,
    ) -> Done {
        utils::parse_memory_section(self, memories, section)?;
        if self.code {
            self.add_memory(memories);
        }
        Ok(())
    }

    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        _: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Done {
        use SectionId as S;
        let too_early = matches!(
            before,
            Some(S::Custom | S::Type | S::Import | S::Function | S::Table | S::Memory)
        );
        if self.code && !self.added && !too_early {
            let mut memories = MemorySection::new();
            self.add_memory(&mut memories);
            module.section(&memories);
        }
        Ok(())
    }

    fn parse_function_body(&mut self, code: &mut CodeSection, body: FunctionBody<'_>) -> Done {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let (mut operators, mut calls) = (0, false);
        for operator in body.get_operators_reader()? {
            operators += 1;
            calls |= is_call(&operator?);
        }
        if calls || operators > SHORT {
            self.point(&mut function);
        }
        let mut reader = body.get_operators_reader()?;
        while !reader.eof() {
            let operator = reader.read()?;
            let is_loop = matches!(operator, Operator::Loop { .. });
            if is_bulk(&operator) {
                self.point(&mut function);
            }
            function.instruction(&self.instruction(operator)?);
            if is_loop {
                self.point(&mut function);
            }
        }
        code.function(&function);
        Ok(())
    }
}
