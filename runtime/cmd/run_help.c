#include "run_help.h"

#define HELP_PROMPTS                                                                               \
    "what to run on (one of these)\n"                                                              \
    "  TEXT, or -p, --text TEXT  as the tokenizer makes tokens of it\n"                            \
    "  -f, --file FILE         a file's text; \"-\" is standard input\n"                           \
    "  --prompt-ids 1,2,3      token ids\n"                                                        \
    "  --prompts FILE.jsonl    many: lines {\"id\", \"prompt\" or \"prompt_ids\", \"n\"}; or "     \
    "\"-\"\n"
#define HELP_MACHINE                                                                               \
    "the machine (changes no result, but for long prompts on a GPU)\n"                             \
    "  --threads N             compute threads in all (default: processors)\n"                     \
    "  --pin auto|yes|no       a processor for each thread, cores first (yes); auto: a rank's "    \
    "threads\n"                                                                                    \
    "                          stay on its node of memory, where there are several\n"              \
    "  --isa scalar|avx2|avx512|avx512bf16\n"                                                      \
    "                          instruction set (default: the best here)\n"                         \
    "  --chunk N               tokens of a prefill step (default 256; on a GPU, without "          \
    "--exact,\n"                                                                                   \
    "                          128, 256, 512, 1024 or 2048, default the least that holds the\n"    \
    "                          context)\n"                                                         \
    "  --device cpu|cuda       cuda: a GPU for each rank (docs/cuda.md)\n"                         \
    "  --share-gpu             several ranks on a GPU where there are fewer GPUs\n"                \
    "  --mem-fraction F        of a GPU's memory that may be used (default 0.9)\n"                 \
    "  --deadline SECONDS      who waits longer for a rank gives up (default: cpu 3600, cuda "     \
    "60)\n"                                                                                        \
    "  --exact                 the CPU's bits for long prompts on a GPU too; slower\n"             \
    "  --verify full|header    header: do not hash the data before using it\n"                     \
    "  -v, --verbose           a report on stderr: files, memory, speeds\n"                        \
    "  --report text|json|none the report as text (-v), as JSON; none: as -q\n"                    \
    "  -q, --quiet             no notes, no report; warnings are said\n"                           \
    "  -h, --help              this text\n"
#define HELP_CACHE                                                                                 \
    "  --context N             positions kept per sequence (default: as many as needed)\n"         \
    "  --kv-dtype f32|bf16|f16  type of the KV cache (changes results)\n"                          \
    "  --layers N              the first N layers of the model alone (changes results)\n"          \
    "  --trace FILE            hashes of the residual stream, per sequence and layer\n"

#define HELP_TEMPLATE                                                                              \
    "  --chat-template NAME    the template of that name (default: with tools tool_use where it "  \
    "is\n"                                                                                         \
    "                          there, else default)\n"

#define HELP_CONVERSATION                                                                          \
    "conversations\n"                                                                              \
    "  --chat                  a text is what a user says: the model's chat template is put\n"     \
    "                          around it. Lines of --prompts may give \"messages\" and "           \
    "\"tools\"\n" HELP_TEMPLATE "  --system TEXT           with a system message\n"                \
    "  --parse-special         take control tokens from what messages say, as transformers does\n"

#define HELP_CHAT                                                                                  \
    "usage: tprun chat BUNDLE [options]\n"                                                         \
    "Talk with the model. Each line is a message; one that ends in \\, or a line of \"\"\" and "   \
    "what\n"                                                                                       \
    "follows up to another, goes on over several. /help lists what else can be typed. Ctrl-C "     \
    "stops\n"                                                                                      \
    "an answer, Ctrl-D ends. Where standard input is no terminal only the answers are "            \
    "printed.\n\n"                                                                                 \
    "choosing tokens (default: as generation_config.json says, else greedy)\n"                     \
    "  -n, --tokens N          new tokens of an answer at most (default 512)\n"                    \
    "  --temp T                temperature, 0 is greedy\n"                                         \
    "  --top-k K  --top-p P  --min-p P\n"                                                          \
    "  --repetition-penalty R  of tokens that stand in the conversation, 1 is none\n"              \
    "  --seed S                default 0\n"                                                        \
    "  --stop TEXT             end an answer before TEXT (up to 4)\n\n"                            \
    "the conversation\n" HELP_TEMPLATE "  --system TEXT           begin with a system message\n"   \
    "  --parse-special         take control tokens from what messages say, as transformers does\n" \
    "  --context N             tokens it may have (default: the model's, at most 4096)\n"          \
    "  --kv-dtype f32|bf16|f16  type of the KV cache (changes results)\n"                          \
    "  --layers N              the first N layers of the model alone (changes results)\n"          \
    "  --no-reuse              begin every turn with an empty KV cache, for comparison\n"          \
    "  --stats                 timing and memory after each answer\n"                              \
    "  --history FILE          keep what was typed there (default: in memory "                     \
    "only)\n\n" HELP_MACHINE

static const struct {
    enum run_command command;
    const char *text;
} table[] = {
    {RUN_GENERATE, "usage: tprun generate BUNDLE [TEXT] [options]\n"
                   "Continue prompts and print what the model says.\n\n" HELP_PROMPTS
                   "\nchoosing tokens (default: as generation_config.json says, else greedy)\n"
                   "  -n, --tokens N          new tokens at most (default 128)\n"
                   "  --temp T                temperature, 0 is greedy\n"
                   "  --top-k K  --top-p P  --min-p P\n"
                   "  --repetition-penalty R  of tokens that stand in prompt or answer, 1 is none\n"
                   "  --seed S                default 0\n"
                   "  --stop TEXT             end before TEXT (up to 4)\n"
                   "  --ignore-eos            go on after an end token\n"
                   "  --ids                   print ids in place of text\n"
                   "  --json                  a JSON line per sequence\n\n" HELP_CONVERSATION
                   "\n" HELP_MACHINE HELP_CACHE},
    {RUN_CHAT, HELP_CHAT},
    {RUN_LOGITS,
     "usage: tprun logits BUNDLE [TEXT] -o FILE [options]\n"
     "Write the logits of every prompt position: f32, little-endian, "
     "[tokens][vocabulary].\n\n"
     "  -o, --output FILE       \"-\" is standard output, if it is no terminal; a FILE.npy\n"
     "                          begins as numpy.load expects it\n"
     "  --fast                  long prompts on a GPU as generate runs them; default: "
     "exact\n\n" HELP_PROMPTS "\n" HELP_MACHINE HELP_CACHE},
    {RUN_TOKENIZE,
     "usage: tprun tokenize (BUNDLE | FILE) [TEXT] [options]\n"
     "Text to token ids: a JSON array for TEXT, or for every line of standard input, which is a\n"
     "JSON string. FILE is a compiled tokenizer, as tpshard tokenizer makes it.\n\n"
     "  --text                  a line is a text as it stands, no JSON string\n"
     "  --decode                ids to text: for every JSON array a JSON string; with --text:\n"
     "                          the text as it is, and a newline\n"
     "  --no-special            without what the tokenizer puts around a text; with\n"
     "                          --decode: without control tokens\n"
     "  -h, --help              this text\n"},
    {RUN_RENDER,
     "usage: tprun render (BUNDLE | FILE | --template FILE.jinja) [options]\n"
     "Render a chat template: each line of stdin is a JSON object of variables, each line of\n"
     "stdout a JSON string, or {\"error\": ..., \"line\": N} where the rendering failed.\n"
     "FILE is a compiled tokenizer.\n\n"
     "  --template FILE         this template; it has no variables but the line's\n" HELP_TEMPLATE
     "  --now \"YYYY-MM-DD HH:MM:SS\"\n"
     "                          what strftime_now shows (default: now, in local time)\n"
     "  --origin                print {\"text\", \"data\": [[begin, end], ...]}: which bytes\n"
     "                          came from the line's variables\n"
     "  -h, --help              this text\n"},
    {RUN_INFO,
     "usage: tprun info [options]\n"
     "What this machine has to run on: the CPU, its instruction sets and processors, memory,\n"
     "GPUs and their driver, this version.\n\n"
     "  --json                  an object; its \"schema\" is 1\n"
     "  -h, --help              this text\n"},
    {RUN_SELFTEST, "usage: tprun selftest BUNDLE [options]\n"
                   "Replay the fixed prompts of the bundle and expect the same bits.\n\n"
                   "  --record                record them: print what an unfinished bundle gets "
                   "as\n"
                   "                          selftest.json\n\n" HELP_MACHINE},
};

const char *run_help(enum run_command command)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].command == command)
            return table[i].text;
    tp_assert(false);
    return "";
}
