/* The input is the data of a chat template: a JSON object that several templates render, written
 * after the forms that published ones take. None of the data's bytes may count as the template's.
 */
#include "mem.h"
#include "template_fixture.h"
#include <string.h>

static const char *const sources[] = {
    /* ChatML with tools, as Qwen has it */
    "{%- if tools %}{{- '<|im_start|>system\\n' }}{%- if messages[0].role == 'system' %}"
    "{{- messages[0].content + '\\n\\n' }}{%- endif %}{%- for tool in tools %}{{- \"\\n\" }}"
    "{{- tool | tojson }}{%- endfor %}{%- endif %}"
    "{%- set ns = namespace(last=messages|length - 1, seen=false) %}"
    "{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}"
    "{%- if not ns.seen and message.role == 'user' and message.content is string and "
    "not(message.content.startswith('<t>') and message.content.endswith('</t>')) %}"
    "{%- set ns.seen = true %}{%- set ns.last = index %}{%- endif %}{%- endfor %}"
    "{%- for m in messages %}{%- if m.content is string %}{%- set content = m.content %}{%- else %}"
    "{%- set content = '' %}{%- endif %}{{- '<|im_start|>' + m.role + '\\n' + content + "
    "'<|im_end|>' + '\\n' }}{%- if m.tool_calls %}{%- for call in m.tool_calls %}"
    "{%- if call.function %}{%- set call = call.function %}{%- endif %}{{- call.name }}"
    "{%- if call.arguments is string %}{{- call.arguments }}{%- else %}"
    "{{- call.arguments | tojson(indent=2) }}{%- endif %}{%- endfor %}{%- endif %}{%- endfor %}",
    /* alternating roles, as Mistral and Llama 2 have it */
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != "
    "(loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}",
    /* every kind of filter and method on every value */
    "{% for k, v in (data or d or {}).items() %}{{ k|upper }}{{ v|string|trim|replace('a', "
    "'bb')|title }}"
    "{% if v is iterable and v is not string %}{{ v|list|length }}{{ v|map('string')|join(',') }}"
    "{{ v|unique|list }}{{ v|sort(reverse=true) }}{{ v[1:]|list if v is sequence and v is not "
    "mapping }}"
    "{% elif v is string %}{{ v[::-1] }}{{ v.split()|sort }}{{ v.rsplit(' ', 1) }}{{ v|indent(2) }}"
    "{{ v.find('a') }}{{ v.splitlines() }}{{ '{0}{a}'.format(v, a=v) }}{{ v|e }}{{ v|safe + v }}"
    "{{ v|capitalize }}{{ v|int }}{{ v|float }}{{ v.strip('ab') }}{{ v.count('a') }}"
    "{% elif v is number %}{{ v * 2 }}{{ v|round(1) }}{{ v // 3 }}{{ v % 7 }}{{ v is odd }}"
    "{% endif %}{{ v|tojson }}{{ v }}{% endfor %}{{ (data or {})|dictsort }}"
    "{{ strftime_now('%d %B %Y') }}",
};
enum { SOURCES = sizeof sources / sizeof *sources };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct jinja_template *compiled[SOURCES];
    static json_t *trusted;
    struct jinja_error error = {0};
    for (size_t i = 0; i < SOURCES && !compiled[i]; i++) {
        compiled[i] = jinja_compile(sources[i], strlen(sources[i]), &error);
        tp_assert(compiled[i]);
    }
    if (!trusted)
        trusted = json_loads(fixture_trusted, 0, NULL);
    json_t *root =
        json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    if (json_is_object(root)) {
        for (size_t i = 0; i < SOURCES; i++)
            fixture_render(compiled[i], trusted, root);
    }
    json_decref(root);
    return 0;
}
