"""Events of persons whom a tool knows by an id of its own: who that is, from what was delivered there.

The collector calls such a person `tool:<tool>:<id>`; `headwater.remote_ids` has the id that the destination told when it
took the row. Where that row was a customer's, the event is the customer's, and identity knows from then on that the two ids are one.
"""

from headwater.warehouse import Warehouse

PERSON = "tool:"


def recognise(warehouse: Warehouse) -> None:
    """Fill in the customer of the rows in `landing_read`; part of landing, in its transaction. Costs one look where no tool spoke."""
    if not warehouse.value(f"select count(*) from landing_read where starts_with(anonymous_id, '{PERSON}')"):
        return
    warehouse.execute(
        f"""update landing_read set customer_id = known.customer_id from (
                select '{PERSON}' || remote_id as anonymous_id, arg_max(customer_id, told_at) as customer_id
                from headwater.remote_ids where customer_id is not null group by remote_id
            ) as known
            where known.anonymous_id = landing_read.anonymous_id and landing_read.customer_id is null"""
    )
