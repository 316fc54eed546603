{#
  A message's text for one person: the placeholders that name him are filled here, where the text is read, so that no ledger
  and no language model ever holds his name in a text. `messages` and `customers` are the joined relations.
#}

{% macro message_text(column) -%}
  replace(
        replace(
            {{ column }}, '{first_name}', case when messages.first_name_ok then trim(customers.first_name) else messages.neutral end
        ),
        '{last_name}', case when messages.last_name_ok then trim(customers.last_name) else '' end
    )
{%- endmacro %}
