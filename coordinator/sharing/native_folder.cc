#include "coordinator/sharing/native_folder.h"

#include "checkpoints/file.h"
#include "checkpoints/out_folder.h"
#include "coordinator/sharing/model_card.h"

namespace svfleet {
namespace {

constexpr char kNativeUse[] =
    R"(One scale z for each singular value of each adapted weight of the base model, W' = U diag(σ∘z) Vᵀ
(Transformer², arXiv 2501.06252), in `expert.safetensors`: one F32 vector a matrix, under the weight's name.

    svfleet generate run.yaml --expert THIS_FOLDER "a prompt"     # model.path in run.yaml: the base model

It means something only with the very factors that it was trained on, since near-equal singular values have
no unique basis: svfleet compares `store_hash` and refuses others, and `svfleet rebase` carries it over to
them. In Python, with svfleet's `scripts/peft_svf`, beside the model and the factor store:

    from peft_svf import load_expert
    handle = load_expert(model, "THIS_FOLDER", "model.factors")
)";

constexpr char kCoreUse[] =
    R"(What training has added to the base model, in `expert.safetensors`: its metadata name the core, and svfleet's
docs/formats.md says what the tensors are.

    svfleet generate run.yaml --expert THIS_FOLDER "a prompt"     # model.path in run.yaml: the base model
)";

}  // namespace

void write_native(const OpenedExpert& opened, const Origin& origin, const std::string& out) {
  OutFolder folder(out);
  folder.write(kExpertInFolder, read_file(opened.path));
  folder.write("README.md",
               model_card(opened, origin,
                          {.library = "svfleet",
                           .title = "An expert vector for " + origin.name,
                           .use = opened.expert.core.empty() ? kNativeUse : kCoreUse}));
  folder.publish();
}

}  // namespace svfleet
